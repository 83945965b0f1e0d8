package meta

import (
	"math"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/dagcbor"
)

// Rows are what is decoded most often: a walk of a million files decodes a million of them. The decoders here read
// the usual row, one whose xattrs are few enough to be none, without reflection. What they take has one encoding
// and means what the general decoder says; whatever else there is they leave to that one.

// cursor reads canonical CBOR; ok is false once something else was met.
type cursor struct {
	b  []byte
	ok bool
}

// CBOR's major types (RFC 8949, 3.1), shifted to their place.
const (
	majorUint  = 0 << 5
	majorNint  = 1 << 5
	majorBytes = 2 << 5
	majorArray = 4 << 5

	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6
)

// head reads the head of an item of a major type: its shortest form, or nothing.
func (c *cursor) head(major byte) uint64 {
	if !c.ok || len(c.b) == 0 || c.b[0]&0xe0 != major {
		c.ok = false
		return 0
	}
	info := c.b[0] & 0x1f
	if info < 24 {
		c.b = c.b[1:]
		return uint64(info)
	}
	size := 1 << (info - 24)
	if info > 27 || len(c.b) < 1+size {
		c.ok = false
		return 0
	}
	var v uint64
	for _, d := range c.b[1 : 1+size] {
		v = v<<8 | uint64(d)
	}
	shortest := [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}
	c.ok = v >= shortest[info-24]
	c.b = c.b[1+size:]
	return v
}

func (c *cursor) uint(most uint64) uint64 {
	v := c.head(majorUint)
	c.ok = c.ok && v <= most
	return v
}

func (c *cursor) int() int64 {
	if len(c.b) > 0 && c.b[0]&0xe0 == majorNint {
		v := c.head(majorNint)
		c.ok = c.ok && v <= math.MaxInt64
		return -1 - int64(v)
	}
	return int64(c.uint(math.MaxInt64))
}

func (c *cursor) bytes() []byte {
	n := c.head(majorBytes)
	if !c.ok || n > uint64(len(c.b)) {
		c.ok = false
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// array reads the head of an array of n elements.
func (c *cursor) array(n uint64) {
	got := c.head(majorArray)
	c.ok = c.ok && got == n
}

// simple reads a byte that is a value by itself.
func (c *cursor) simple(want byte) bool {
	if !c.ok || len(c.b) == 0 || c.b[0] != want {
		return false
	}
	c.b = c.b[1:]
	return true
}

func (c *cursor) bool() bool {
	v := c.simple(cborTrue)
	c.ok = c.ok && (v || c.simple(cborFalse))
	return v
}

// link reads null or tag 42 around a CID.
func (c *cursor) link() cid.Cid {
	if c.simple(cborNull) {
		return cid.Undef
	}
	if len(c.b) < 2 || c.b[0] != 0xd8 || c.b[1] != 42 {
		c.ok = false
		return cid.Undef
	}
	c.b = c.b[2:]
	b := c.bytes()
	if !c.ok || len(b) < 2 || b[0] != 0 {
		c.ok = false
		return cid.Undef
	}
	id, err := cid.Cast(b[1:])
	c.ok = err == nil
	return id
}

// rowFields is how many elements a row has.
const rowFields = 14

// minRow is the size of the smallest row: its head, and a byte for each element.
const minRow = 1 + rowFields

// row reads a row without xattrs. Whether its values may be is for checkRow to say.
func (c *cursor) row() (name []byte, r Attr) {
	c.array(rowFields)
	name = c.bytes()
	r.Type, r.Mode = Type(c.uint(math.MaxUint8)), uint16(c.uint(math.MaxUint16))
	r.UID, r.GID = uint32(c.uint(math.MaxUint32)), uint32(c.uint(math.MaxUint32))
	r.Sec, r.Nsec = c.int(), uint32(c.uint(math.MaxUint32))
	c.array(0)
	r.XattrsAt = c.link()
	r.Sparse = c.bool()
	r.Major, r.Minor = uint32(c.uint(math.MaxUint32)), uint32(c.uint(math.MaxUint32))
	r.Below = c.uint(math.MaxUint64)
	r.Entries = c.link()
	return name, r
}

// fastRow decodes a usual row; false leaves it to the general decoder.
func fastRow(raw dagcbor.Raw) (Row, bool) {
	c := cursor{b: raw, ok: true}
	name, a := c.row()
	return Row{Name: string(name), Attr: a}, c.ok && len(c.b) == 0
}

// rowsPrefix is how the encoding of a wireRows begins: a map of one pair, its key "rows".
const rowsPrefix = "\xa1\x64rows"

// fastRows takes a node of usual rows apart; false leaves it to the general decoder.
func fastRows(data []byte) ([]dagcbor.Raw, bool) {
	if len(data) > dagcbor.MaxSize || len(data) < len(rowsPrefix) || string(data[:len(rowsPrefix)]) != rowsPrefix {
		return nil, false
	}
	c := cursor{b: data[len(rowsPrefix):], ok: true}
	n := c.head(majorArray)
	if !c.ok || n > uint64(len(c.b))/minRow {
		return nil, false
	}
	rows := make([]dagcbor.Raw, 0, n)
	for range n {
		from := c.b
		if c.row(); !c.ok {
			return nil, false
		}
		rows = append(rows, dagcbor.Raw(from[:len(from)-len(c.b)]))
	}
	return rows, len(c.b) == 0
}
