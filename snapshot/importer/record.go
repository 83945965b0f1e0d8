package importer

import (
	"encoding/binary"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/meta"
)

// recordVersion is part of the keys: another version finds nothing.
const recordVersion = 2

const maxSegments = 1 << 20

// encode makes a record's value: flags, what the directory became, the digests of the segments, the entries.
func (r *record) encode() []byte {
	b := []byte{0}
	if r.whole {
		b[0] = 1
	}
	b = appendCID(b, r.tree.CID)
	b = binary.AppendUvarint(b, r.tree.Tsize)
	b = appendCID(b, r.rows)
	b = binary.AppendUvarint(b, r.below)
	b = binary.AppendUvarint(b, uint64(len(r.digests)))
	for _, d := range r.digests {
		b = appendBytes(b, d)
	}
	return append(b, r.entries...)
}

// decodeRecord reads a record; nil if it is none. What it says is not trusted beyond what is adopted.
func decodeRecord(b []byte) *record {
	in := input{b: b}
	r := &record{whole: in.byte() == 1}
	r.tree.CID = in.cid()
	r.tree.Tsize = in.uvarint()
	r.rows = in.cid()
	r.below = in.uvarint()
	n := in.uvarint()
	for i := uint64(0); i < n && i < maxSegments && !in.bad; i++ {
		r.digests = append(r.digests, in.bytes())
	}
	r.entries = in.b
	if in.bad || !r.tree.CID.Defined() {
		return nil
	}
	c := cursor{rest: r.entries}
	for c.next() {
		if c.entry.typ == meta.Dir {
			e := c.entry
			e.name = strings.Clone(e.name)
			r.subdirs = append(r.subdirs, e)
		}
	}
	if c.bad {
		return nil
	}
	return r
}

// append encodes an entry. A directory's stamps are left out: they say nothing about what is below.
func (e *entry) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.name)))
	b = append(b, e.name...)
	b = append(b, byte(e.typ), byte(e.flags&(sparse|linked)))
	b = binary.LittleEndian.AppendUint16(b, e.mode)
	b = binary.AppendUvarint(b, uint64(e.uid))
	b = binary.AppendUvarint(b, uint64(e.gid))
	b = binary.AppendVarint(b, e.sec)
	b = binary.AppendUvarint(b, uint64(e.nsec))
	if e.typ != meta.Dir {
		b = binary.AppendUvarint(b, e.ino)
		b = binary.AppendVarint(b, e.ctime)
		b = binary.AppendUvarint(b, e.size)
	}
	b = appendCID(b, e.cid)
	b = binary.AppendUvarint(b, e.tsize)
	x := e.extra
	if x == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(x.xattrs))+1)
	for _, a := range x.xattrs {
		b = appendBytes(appendBytes(b, []byte(a.Name)), a.Value)
	}
	b = binary.AppendUvarint(b, uint64(len(x.uncaptured)))
	for _, name := range x.uncaptured {
		b = appendBytes(b, []byte(name))
	}
	b = binary.AppendUvarint(b, uint64(x.major))
	b = binary.AppendUvarint(b, uint64(x.minor))
	b = binary.AppendUvarint(b, x.below)
	return appendCID(b, x.entries)
}

// cursor reads encoded entries one after the other.
type cursor struct {
	rest []byte
	all  bool   // all entries are kept
	kept []bool // which are, if not all

	entry entry
	n     int // entries read
	bad   bool
	read  bool // entry is one
}

func (c *cursor) next() bool {
	if c.read = len(c.rest) > 0 && !c.bad; !c.read {
		return false
	}
	in := input{b: c.rest}
	e := entry{name: string(in.bytes())}
	e.typ, e.flags = meta.Type(in.byte()), flags(in.byte())&(sparse|linked)
	e.mode = in.uint16()
	e.uid, e.gid = uint32(in.uvarint()), uint32(in.uvarint())
	e.sec, e.nsec = in.varint(), uint32(in.uvarint())
	if e.typ != meta.Dir {
		e.ino, e.ctime, e.size = in.uvarint(), in.varint(), in.uvarint()
	}
	e.cid, e.tsize = in.cid(), in.uvarint()
	if n := in.uvarint(); n > 0 && !in.bad {
		x := new(extra)
		for i := uint64(1); i < n && !in.bad; i++ {
			x.xattrs = append(x.xattrs, meta.Xattr{Name: string(in.bytes()), Value: append([]byte{}, in.bytes()...)})
		}
		for i, n := uint64(0), in.uvarint(); i < n && !in.bad; i++ {
			x.uncaptured = append(x.uncaptured, string(in.bytes()))
		}
		x.major, x.minor, x.below = uint32(in.uvarint()), uint32(in.uvarint()), in.uvarint()
		x.entries = in.cid()
		e.extra = x
	}
	c.entry, c.rest, c.bad, c.read = e, in.b, in.bad, !in.bad
	c.n++
	return c.read
}

// find returns the entry of a name, if it is there and kept; names are asked for in their order.
func (c *cursor) find(name string) *entry {
	if c == nil {
		return nil
	}
	for c.n == 0 || c.read && c.entry.name < name {
		if !c.next() {
			return nil
		}
	}
	if !c.read || c.entry.name != name || c.entry.typ == meta.Dir {
		return nil
	}
	if !c.all && c.entry.cid.Defined() && (c.n > len(c.kept) || !c.kept[c.n-1]) {
		return nil
	}
	return &c.entry
}

// input reads the parts of a record; after something malformed, bad is set and the rest is zero.
type input struct {
	b   []byte
	bad bool
}

func (in *input) fail() {
	in.b, in.bad = nil, true
}

func (in *input) byte() byte {
	if len(in.b) == 0 {
		in.fail()
		return 0
	}
	v := in.b[0]
	in.b = in.b[1:]
	return v
}

func (in *input) uint16() uint16 { return uint16(in.byte()) | uint16(in.byte())<<8 }

func (in *input) uvarint() uint64 {
	v, n := binary.Uvarint(in.b)
	if n <= 0 {
		in.fail()
		return 0
	}
	in.b = in.b[n:]
	return v
}

func (in *input) varint() int64 {
	v, n := binary.Varint(in.b)
	if n <= 0 {
		in.fail()
		return 0
	}
	in.b = in.b[n:]
	return v
}

func (in *input) bytes() []byte {
	n := in.uvarint()
	if n > uint64(len(in.b)) {
		in.fail()
		return nil
	}
	v := in.b[:n]
	in.b = in.b[n:]
	return v
}

// cid reads a CID; an empty one is undefined.
func (in *input) cid() cid.Cid {
	b := in.bytes()
	if len(b) == 0 {
		return cid.Undef
	}
	c, err := cid.Cast(b)
	if err != nil {
		in.fail()
	}
	return c
}

func appendBytes(b, v []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }

func appendCID(b []byte, c cid.Cid) []byte {
	return append(binary.AppendUvarint(b, uint64(c.ByteLen())), c.KeyString()...)
}
