package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// A pack is a sequence of frames and nothing else. A frame is
//
//	magic    4 bytes  "vbk1"
//	size     4 bytes  little endian, of the data
//	cidSize  4 bytes  little endian
//	check    4 bytes  little endian, CRC-32C of all of the above and the CID
//	cid      cidSize bytes, a CIDv1
//	data
const (
	frameMagic  = "vbk1"
	frameHeader = 16
	maxCIDSize  = 256
)

// frameOverhead is the bytes that come before the data of a frame.
func frameOverhead(c cid.Cid) int { return frameHeader + c.ByteLen() }

// appendHeader appends what precedes a frame's data of size bytes.
func appendHeader(b []byte, c cid.Cid, size int) []byte {
	at := len(b)
	key := c.KeyString()
	b = append(b, frameMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = append(b, 0, 0, 0, 0)
	b = append(b, key...)
	binary.LittleEndian.PutUint32(b[at+12:], headerCheck(b[at:at+frameHeader], b[at+frameHeader:]))
	return b
}

func headerCheck(header, key []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(header[:12], table), table, key)
}

// errTorn says that no sound frame begins at an offset.
var errTorn = errors.New("torn frame")

// A frame is one block found in a pack.
type frame struct {
	name  name
	start int64 // of the header
	off   int64 // of the data
	data  []byte
}

// A frameReader reads the frames of a pack one after the other.
type frameReader struct {
	r   *bufio.Reader
	off int64
	end int64
	buf []byte
}

func newFrameReader(r io.ReaderAt, from, to int64) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(io.NewSectionReader(r, from, to-from), 1<<20), off: from, end: to}
}

// next returns the frame at the reader's offset, unverified; its data is valid until the next call. It
// returns io.EOF at the end and an error wrapping errTorn where no frame is.
func (r *frameReader) next() (frame, error) {
	if r.off == r.end {
		return frame{}, io.EOF
	}
	var h [frameHeader + maxCIDSize]byte
	if _, err := io.ReadFull(r.r, h[:frameHeader]); err != nil {
		return frame{}, torn(r.off, err)
	}
	size := binary.LittleEndian.Uint32(h[4:])
	cidSize := binary.LittleEndian.Uint32(h[8:])
	if string(h[:4]) != frameMagic || cidSize > maxCIDSize || size > snapshot.MaxBlockSize {
		return frame{}, torn(r.off, nil)
	}
	key := h[frameHeader : frameHeader+cidSize]
	if _, err := io.ReadFull(r.r, key); err != nil {
		return frame{}, torn(r.off, err)
	}
	if binary.LittleEndian.Uint32(h[12:]) != headerCheck(h[:frameHeader], key) {
		return frame{}, torn(r.off, nil)
	}
	c, err := cid.Cast(key)
	if err != nil {
		return frame{}, torn(r.off, nil)
	}
	n, err := nameOf(c)
	if err != nil {
		return frame{}, torn(r.off, nil)
	}
	if cap(r.buf) < int(size) {
		r.buf = make([]byte, max(int(size), 1<<20))
	}
	data := r.buf[:size]
	if _, err := io.ReadFull(r.r, data); err != nil {
		return frame{}, torn(r.off, err)
	}
	f := frame{name: n, start: r.off, off: r.off + frameHeader + int64(cidSize), data: data}
	r.off = f.off + int64(size)
	return f, nil
}

// torn tells a frame that ends too early from a disk that cannot be read.
func torn(off int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("at offset %d: %w", off, errTorn)
	}
	return fmt.Errorf("read at offset %d: %w", off, err)
}
