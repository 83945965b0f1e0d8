package unixfs

import (
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"google.golang.org/protobuf/encoding/protowire"
)

// Types of a UnixFS node (enum DataType of the specification).
const (
	typeRaw       = 0
	typeDirectory = 1
	typeFile      = 2
	typeSymlink   = 4
	typeShard     = 5
)

const murmur3Code = 0x22 // multicodec of murmur3-x64-64, the one hash of sharded directories

// fsData is the message Data of the UnixFS specification; mode and mtime are checked and dropped.
type fsData struct {
	typ      uint64
	data     []byte
	declared uint64 // size of a file's content, if hasSize
	hasSize  bool
	sizes    []uint64 // content bytes below each link
	hash     uint64
	fanout   uint64
}

// fsNode is a dag-pb node with the UnixFS message in its data.
type fsNode struct {
	cid   cid.Cid
	links []Child
	fsData
}

// fileSize is the size of the content of a file, checked against its parts.
func (n fsNode) fileSize() (uint64, error) {
	if n.typ != typeFile && n.typ != typeRaw {
		return 0, malformed("node of type %d is not a file", n.typ)
	}
	if len(n.sizes) != len(n.links) {
		return 0, malformed("file has %d links, but the sizes of %d", len(n.links), len(n.sizes))
	}
	sum := uint64(len(n.data))
	for _, s := range n.sizes {
		if s > maxFileSize-min(sum, maxFileSize) {
			return 0, malformed("file larger than %d bytes", uint64(maxFileSize))
		}
		sum += s
	}
	if n.hasSize && n.declared != sum {
		return 0, malformed("file of %d bytes has parts of %d", n.declared, sum)
	}
	return sum, nil
}

// decode reads a dag-pb node and the UnixFS message in it. What it accepts, other implementations read alike.
func decode(b blocks.Block) (fsNode, error) {
	n := fsNode{cid: b.Cid()}
	if codec := n.cid.Prefix().Codec; codec != cid.DagProtobuf {
		return n, malformed("codec %#x is not dag-pb", codec)
	}
	const before, inLinks, after = 0, 1, 2
	var data []byte
	hasData, state := false, before
	for rest := b.RawData(); len(rest) > 0; {
		num, typ, val, tail, err := field(rest)
		if err != nil {
			return n, err
		}
		rest = tail
		switch {
		case num == 1 && typ == protowire.BytesType && !hasData:
			data, hasData = val.bytes, true
			if state == inLinks {
				state = after
			}
		case num == 2 && typ == protowire.BytesType && state != after:
			l, err := decodeLink(val.bytes)
			if err != nil {
				return n, err
			}
			n.links, state = append(n.links, l), inLinks
		default:
			return n, malformed("unexpected field %d in a dag-pb node", num)
		}
	}
	if !hasData {
		return n, malformed("dag-pb node without data")
	}
	var err error
	n.fsData, err = decodeData(data)
	return n, err
}

func decodeLink(b []byte) (Child, error) {
	var l Child
	last := protowire.Number(0)
	for len(b) > 0 {
		num, typ, val, tail, err := field(b)
		if err != nil {
			return l, err
		}
		if num <= last {
			return l, malformed("fields of a dag-pb link out of order")
		}
		b, last = tail, num
		switch {
		case num == 1 && typ == protowire.BytesType:
			n, c, err := cid.CidFromBytes(val.bytes)
			if err != nil || n != len(val.bytes) {
				return l, malformed("dag-pb link without a CID")
			}
			l.CID = c
		case num == 2 && typ == protowire.BytesType:
			l.Name = string(val.bytes)
		case num == 3 && typ == protowire.VarintType:
			l.Tsize = val.varint
		default:
			return l, malformed("unexpected field %d in a dag-pb link", num)
		}
	}
	if !l.CID.Defined() {
		return l, malformed("dag-pb link without a CID")
	}
	return l, nil
}

func decodeData(b []byte) (fsData, error) {
	var d fsData
	seen := 0
	for len(b) > 0 {
		num, typ, val, tail, err := field(b)
		if err != nil {
			return d, err
		}
		b = tail
		if num < 1 || num > 8 || (num != 4 && seen&(1<<num) != 0) {
			return d, malformed("unexpected field %d in a unixfs node", num)
		}
		seen |= 1 << num
		want := protowire.VarintType
		if num == 2 || num == 8 || num == 4 && typ == protowire.BytesType {
			want = protowire.BytesType
		}
		if typ != want {
			return d, malformed("field %d of a unixfs node has wire type %d", num, typ)
		}
		switch num {
		case 1:
			d.typ = val.varint
		case 2:
			d.data = val.bytes
		case 3:
			d.declared, d.hasSize = val.varint, true
		case 4:
			if d.sizes, err = appendSizes(d.sizes, typ, val); err != nil {
				return d, err
			}
		case 5:
			d.hash = val.varint
		case 6:
			d.fanout = val.varint
		}
	}
	switch d.typ {
	case typeRaw, typeDirectory, typeFile, typeSymlink, typeShard:
	default:
		return d, malformed("unixfs node of unknown type %d", d.typ)
	}
	if seen&(1<<1) == 0 {
		return d, malformed("unixfs node without a type")
	}
	return d, nil
}

// appendSizes reads the sizes of the links, which some writers pack into one field.
func appendSizes(sizes []uint64, typ protowire.Type, val value) ([]uint64, error) {
	if typ == protowire.VarintType {
		return append(sizes, val.varint), nil
	}
	for packed := val.bytes; len(packed) > 0; {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return nil, malformed("packed sizes of a unixfs node")
		}
		sizes, packed = append(sizes, v), packed[n:]
	}
	return sizes, nil
}

type value struct {
	varint uint64
	bytes  []byte
}

func field(b []byte) (protowire.Number, protowire.Type, value, []byte, error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, value{}, nil, malformed("protobuf: %w", protowire.ParseError(n))
	}
	b = b[n:]
	var v value
	switch typ {
	case protowire.VarintType:
		v.varint, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		v.bytes, n = protowire.ConsumeBytes(b)
	default:
		return 0, 0, value{}, nil, malformed("protobuf field %d of wire type %d", num, typ)
	}
	if n < 0 {
		return 0, 0, value{}, nil, malformed("protobuf: %w", protowire.ParseError(n))
	}
	return num, typ, v, b[n:], nil
}

// encode makes the bytes of a dag-pb node; links are in byte order of their names.
func encode(links []Child, data []byte) []byte {
	size := 1 + protowire.SizeBytes(len(data))
	for _, l := range links {
		size += linkSize(len(l.Name), l.CID.ByteLen(), l.Tsize)
	}
	b := make([]byte, 0, size)
	for _, l := range links {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(linkBody(len(l.Name), l.CID.ByteLen(), l.Tsize)))
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendString(b, l.CID.KeyString())
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendString(b, l.Name)
		b = protowire.AppendTag(b, 3, protowire.VarintType)
		b = protowire.AppendVarint(b, l.Tsize)
	}
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	return protowire.AppendBytes(b, data)
}

// linkSize is the number of bytes a link adds to its node.
func linkSize(name, cid int, tsize uint64) int {
	return 1 + protowire.SizeBytes(linkBody(name, cid, tsize))
}

func linkBody(name, cid int, tsize uint64) int {
	return 1 + protowire.SizeBytes(cid) + 1 + protowire.SizeBytes(name) + 1 + protowire.SizeVarint(tsize)
}

// appendData encodes d with the fields that other implementations write for its type.
func appendData(b []byte, d fsData) []byte {
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, d.typ)
	if len(d.data) > 0 {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendBytes(b, d.data)
	}
	if d.typ == typeFile {
		b = protowire.AppendTag(b, 3, protowire.VarintType)
		b = protowire.AppendVarint(b, d.declared)
	}
	for _, s := range d.sizes {
		b = protowire.AppendTag(b, 4, protowire.VarintType)
		b = protowire.AppendVarint(b, s)
	}
	if d.typ == typeShard {
		b = protowire.AppendTag(b, 5, protowire.VarintType)
		b = protowire.AppendVarint(b, d.hash)
		b = protowire.AppendTag(b, 6, protowire.VarintType)
		b = protowire.AppendVarint(b, d.fanout)
	}
	return b
}
