package api

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Blocks, CIDs and stat records cross the socket as sequences of
//
//	string  = uvarint length, that many bytes
//	cid     = string: a binary CID
//	block   = cid, string: the bytes
//	got     = string: an error, or an empty one and then string: the bytes of a block
//	brought = string: an error, or an empty one and then uvarint: the size of a block
//	record  = string: key, string: value, uvarint n, n times cid
//
// with the shortest uvarints (multiformats' unsigned-varint). A sequence ends with the body.

const (
	maxCIDSize = 2048
	// maxCIDs and maxCIDBytes bound a list of CIDs in one request; a client sends longer ones in parts.
	maxCIDs     = 8192
	maxCIDBytes = 1 << 20
	// arenaSize is how much of a body of blocks is in memory at a time.
	arenaSize = snapshot.MaxBlockSize
	// arenaBlocks is how many blocks are stored at a time.
	arenaBlocks = 512
	readBuffer  = 128 << 10
	// gotBytes is how large an answer of blocks gets: no further block is added to one of that size.
	gotBytes = 1 << 20
	// tellTime is how long what was brought is collected before who waits is told.
	tellTime = 200 * time.Millisecond
	// maxError bounds an error in such an answer.
	maxError = 64 << 10

	maxStatKey   = 64 << 10
	maxStatValue = 16 << 20
	maxStatRoots = 1 << 16
)

func appendUvarint(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

func appendString[T []byte | string](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendCID(b []byte, c cid.Cid) []byte { return appendString(b, c.KeyString()) }

// frameReader reads the pieces of a sequence. All errors but those of the underlying reader wrap ErrRequest.
type frameReader struct {
	br   *bufio.Reader
	name [maxCIDSize]byte
}

// newFrameReader reads a body, with a buffer of its size if that is known, and not -1.
func newFrameReader(r io.Reader, size int64) *frameReader {
	if size < 0 || size > readBuffer {
		size = readBuffer
	}
	return &frameReader{br: bufio.NewReaderSize(r, int(size))}
}

// uvarint reads a number; io.EOF at the end of the body.
func (f *frameReader) uvarint() (uint64, error) {
	var v uint64
	for i := 0; ; i++ {
		b, err := f.br.ReadByte()
		if err != nil {
			if err == io.EOF && i > 0 {
				err = errCut
			}
			return 0, err
		}
		if i == 9 || i > 0 && b == 0 {
			return 0, fmt.Errorf("number is not in its shortest form or above 2^63: %w", ErrRequest)
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, nil
		}
	}
}

var errCut = fmt.Errorf("body ends within a frame: %w", ErrRequest)

// within turns the end of the body into an error, where a frame is not complete.
func within(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

// size reads the length of a string; io.EOF at the end of the body.
func (f *frameReader) size(what string, limit int) (int, error) {
	n, err := f.uvarint()
	if err != nil {
		return 0, err
	}
	if n > uint64(limit) {
		return 0, fmt.Errorf("%s of %d bytes, at most %d are accepted: %w", what, n, limit, ErrTooLarge)
	}
	return int(n), nil
}

func (f *frameReader) fill(p []byte) error {
	_, err := io.ReadFull(f.br, p)
	return within(err)
}

// cid reads a CID; io.EOF at the end of the body.
func (f *frameReader) cid() (cid.Cid, error) {
	n, err := f.size("CID", maxCIDSize)
	if err != nil {
		return cid.Undef, err
	}
	name := f.name[:n]
	if err := f.fill(name); err != nil {
		return cid.Undef, err
	}
	c, err := cid.Cast(name)
	if err != nil {
		return cid.Undef, fmt.Errorf("CID %x: %w: %w", name, ErrRequest, err)
	}
	return c, nil
}

// cids reads a list to the end of the body.
func (f *frameReader) cids() ([]cid.Cid, error) {
	var cs []cid.Cid
	for {
		c, err := f.cid()
		if err == io.EOF {
			return cs, nil
		}
		if err != nil {
			return nil, err
		}
		if len(cs) == maxCIDs {
			return nil, fmt.Errorf("more than %d CIDs: %w", maxCIDs, ErrTooLarge)
		}
		cs = append(cs, c)
	}
}

// got reads what is answered for one block: an error as it is on the wire, or else the bytes, in memory of
// their own; io.EOF at the end of the body.
func (f *frameReader) got() (failure, data []byte, _ error) {
	n, err := f.size("error", maxError)
	if err != nil {
		return nil, nil, err
	}
	if n > 0 {
		failure = make([]byte, n)
		return failure, nil, f.fill(failure)
	}
	if n, err = f.size("block", snapshot.MaxBlockSize); err != nil {
		return nil, nil, within(err)
	}
	data = make([]byte, n)
	return nil, data, f.fill(data)
}

// brought reads what is answered for one block that was to be brought: an error as it is on the wire, or else its size;
// io.EOF at the end of the body.
func (f *frameReader) brought() (failure []byte, size int, _ error) {
	n, err := f.size("error", maxError)
	if err != nil {
		return nil, 0, err
	}
	if n > 0 {
		failure = make([]byte, n)
		return failure, 0, f.fill(failure)
	}
	size, err = f.size("block", snapshot.MaxBlockSize)
	return nil, size, within(err)
}

// blockReader reads a sequence of blocks in parts that fit its memory.
type blockReader struct {
	frames *frameReader
	arena  []byte
	next   cid.Cid // header read, with the bytes to come
	size   int
	got    []blocks.Block
}

func newBlockReader(r io.Reader) *blockReader {
	return &blockReader{frames: newFrameReader(r, -1), arena: make([]byte, arenaSize)}
}

// reset makes the reader's memory serve another body.
func (r *blockReader) reset(body io.Reader) {
	r.frames.br.Reset(body)
	r.next = cid.Undef
	clear(r.got)
}

// batch returns the next blocks, which are not checked and valid until the next call; io.EOF after the last.
func (r *blockReader) batch() ([]blocks.Block, error) {
	r.got = r.got[:0]
	used := 0
	for len(r.got) < arenaBlocks {
		err := r.header()
		if err == io.EOF && len(r.got) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		if used+r.size > len(r.arena) {
			break
		}
		data := r.arena[used : used+r.size : used+r.size]
		if err := r.frames.fill(data); err != nil {
			return nil, err
		}
		b, err := blocks.NewBlockWithCid(data, r.next)
		if err != nil {
			return nil, err
		}
		r.got, used, r.next = append(r.got, b), used+r.size, cid.Undef
	}
	return r.got, nil
}

func (r *blockReader) header() (err error) {
	if r.next.Defined() {
		return nil
	}
	c, err := r.frames.cid()
	if err != nil {
		return err
	}
	if r.size, err = r.frames.size("block", snapshot.MaxBlockSize); err != nil {
		return fmt.Errorf("block %s: %w", c, within(err))
	}
	r.next = c
	return nil
}

// checkStranger checks a block from a caller who is not trusted. Bytes that are not the CID's are the caller's
// mistake, not damage of the store.
func checkStranger(b blocks.Block) error {
	err := snapshot.CheckHash(b)
	if errors.Is(err, snapshot.ErrDamaged) {
		return fmt.Errorf("block %s: the bytes are not those the CID names: %w", b.Cid(), snapshot.ErrFormat)
	}
	return err
}
