package cached

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

const (
	// magic begins a segment.
	magic  = "volary cache 1\n"
	suffix = ".segment"
	// maxHash is the longest multihash that is kept.
	maxHash = 128
)

// segment is a file of frames, each a multihash and a block's bytes with their lengths before them.
type segment struct {
	number uint64
	file   *os.File
	size   int64 // of what is written, or being written
	keys   []string

	ours    bool // made by this process, which may append to it
	removed bool
}

// place is where a block's bytes are.
type place struct {
	segment *segment
	offset  int64
	size    int
}

// load finds the segments. Nothing is appended to them any more: the end of one may be that of a crash.
func (b *Blocks) load() error {
	names, err := filepath.Glob(filepath.Join(b.dir, "*"+suffix))
	if err != nil {
		return err
	}
	slices.Sort(names) // by number, which has leading zeros
	for _, name := range names {
		s := &segment{}
		if _, err := fmt.Sscanf(strings.TrimSuffix(filepath.Base(name), suffix), "%016x", &s.number); err != nil {
			return fmt.Errorf("%s is no segment: %w", name, err)
		}
		if s.file, err = os.Open(name); err != nil {
			return err
		}
		b.segments = append(b.segments, s)
		b.next = s.number + 1
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		s.size = info.Size()
		b.total += s.size
		b.scan(s)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.makeRoom(0)
	return nil
}

// scan indexes a segment, up to what is not whole.
func (b *Blocks) scan(s *segment) {
	in := &countingReader{r: bufio.NewReader(io.NewSectionReader(s.file, 0, s.size))}
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(in, begin); err != nil || string(begin) != magic {
		return
	}
	for {
		n, err := binary.ReadUvarint(in)
		if err != nil || n == 0 || n > maxHash {
			return
		}
		hash := make([]byte, n)
		if _, err := io.ReadFull(in, hash); err != nil {
			return
		}
		size, err := binary.ReadUvarint(in)
		if err != nil || size > snapshot.MaxBlockSize || in.n+int64(size) > s.size {
			return
		}
		b.index[string(hash)] = place{s, in.n, int(size)}
		s.keys = append(s.keys, string(hash))
		if _, err := in.r.Discard(int(size)); err != nil {
			return
		}
		in.n += int64(size)
	}
}

type countingReader struct {
	r *bufio.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	x, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return x, err
}

func (b *Blocks) find(c cid.Cid) (place, bool) {
	if !c.Defined() {
		return place{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.index[string(c.Hash())]
	return p, ok
}

// forget drops a block that is not what it should be.
func (b *Blocks) forget(c cid.Cid, p place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index[string(c.Hash())] == p {
		delete(b.index, string(c.Hash()))
	}
}

// aging tells whether a block is in the older half of what is removed next.
func (b *Blocks) aging(p place) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.segments) > 1 && p.segment.number < b.segments[len(b.segments)/2].number
}

// write appends a block that is nowhere, or at a place that it leaves. What cannot be written is not kept.
func (b *Blocks) write(blk blocks.Block, from place) {
	c := blk.Cid()
	if c.Prefix().MhType == mh.IDENTITY || len(c.Hash()) > maxHash || len(blk.RawData()) > snapshot.MaxBlockSize {
		return
	}
	frame := binary.AppendUvarint(nil, uint64(len(c.Hash())))
	frame = binary.AppendUvarint(append(frame, c.Hash()...), uint64(len(blk.RawData())))
	head := int64(len(frame))
	frame = append(frame, blk.RawData()...)
	s, at, err := b.reserve(int64(len(frame)))
	if err == nil {
		_, err = s.file.WriteAt(frame, at)
	}
	if err != nil {
		b.unwritten.Add(1)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := string(c.Hash())
	if there, ok := b.index[key]; !s.removed && (!ok || there == from) {
		b.index[key] = place{s, at + head, len(blk.RawData())}
		s.keys = append(s.keys, key)
	}
}

var errTooLarge = errors.New("larger than the cache")

// reserve finds room for a frame, and removes the oldest segments for it.
func (b *Blocks) reserve(n int64) (*segment, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n+int64(len(magic)) > b.size {
		return nil, 0, errTooLarge
	}
	if len(b.segments) == 0 || b.full(b.segments[len(b.segments)-1], n) {
		n := n + int64(len(magic))
		b.makeRoom(n)
		if err := b.begin(); err != nil {
			return nil, 0, err
		}
	}
	for b.total+n > b.size && len(b.segments) > 1 {
		b.removeOldest()
	}
	if b.total+n > b.size { // the only one is as large as the cache
		b.makeRoom(b.size)
		if err := b.begin(); err != nil {
			return nil, 0, err
		}
	}
	s := b.segments[len(b.segments)-1]
	at := s.size
	s.size += n
	b.total += n
	return s, at, nil
}

// full tells whether a segment takes no more. One from before this process takes nothing.
func (b *Blocks) full(s *segment, n int64) bool {
	return !s.ours || s.size > int64(len(magic)) && s.size+n > b.size/parts
}

// begin makes a new segment.
func (b *Blocks) begin() error {
	name := filepath.Join(b.dir, fmt.Sprintf("%016x%s", b.next, suffix))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(magic), 0); err != nil {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	b.segments = append(b.segments, &segment{number: b.next, file: f, size: int64(len(magic)), ours: true})
	b.next++
	b.total += int64(len(magic))
	return nil
}

// makeRoom removes the oldest segments until n more bytes fit.
func (b *Blocks) makeRoom(n int64) {
	for b.total+n > b.size && len(b.segments) > 0 {
		b.removeOldest()
	}
}

// removeOldest removes a segment. Whoever reads it gets its blocks from the slow Blocks.
func (b *Blocks) removeOldest() {
	s := b.segments[0]
	b.segments = b.segments[1:]
	b.total -= s.size
	for _, key := range s.keys {
		if b.index[key].segment == s {
			delete(b.index, key)
		}
	}
	s.keys, s.removed = nil, true
	_ = os.Remove(s.file.Name()) // if it cannot be removed, the next Open finds it and tries again
	_ = s.file.Close()
}
