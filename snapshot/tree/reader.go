package tree

import (
	"context"
	"fmt"
	"io"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// readAhead is how many chunks of a file are being fetched before they are asked for.
const readAhead = 4

// Reader returns a file's content. Close it when done.
func (s *Snapshot) Reader(ctx context.Context, file Entry) (*Reader, error) {
	if file.Type != meta.File {
		return nil, fmt.Errorf("read %q: a %s, not a file", file.Name, file.Type)
	}
	// The directory's word on the size of a one-block file is not taken.
	e, err := s.stat(ctx, file.Name, file.CID)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", file.Name, err)
	}
	return &Reader{ctx: ctx, s: s, file: e}, nil
}

// Reader reads a file of a snapshot, every chunk verified, the next ones fetched ahead. It is for one
// goroutine at a time.
type Reader struct {
	ctx    context.Context // of the file's reader, as an io.Reader has no other way to get one
	s      *Snapshot
	file   Entry
	offset int64
	stream *stream // nil until something is read after opening or seeking
	rest   []byte  // what is left of the current chunk
}

var (
	_ io.ReadSeekCloser = (*Reader)(nil)
	_ io.WriterTo       = (*Reader)(nil)
)

// Size is the number of bytes of the file.
func (r *Reader) Size() int64 { return int64(r.file.Size) }

// Read implements [io.Reader].
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.offset += int64(n)
	return n, nil
}

// WriteTo implements [io.WriterTo], without copying the chunks.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.fill(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		r.offset += int64(n)
		r.rest = r.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// fill makes rest the bytes at offset.
func (r *Reader) fill() error {
	if len(r.rest) > 0 {
		return nil
	}
	if r.offset >= r.Size() {
		return io.EOF
	}
	if r.stream == nil {
		r.stream = newStream(r.ctx, r.s, r.file, uint64(r.offset))
	}
	c, ok := r.stream.next()
	if !ok && r.ctx.Err() != nil {
		return fmt.Errorf("read %q: %w", r.file.Name, r.ctx.Err())
	}
	if !ok {
		// Every chunk's size was checked against the file's, so this is the end of a malformed DAG.
		return fmt.Errorf("read %q: %w: %w", r.file.Name, io.ErrUnexpectedEOF, snapshot.ErrFormat)
	}
	if c.err != nil {
		return fmt.Errorf("read %q at %d: %w", r.file.Name, r.offset, c.err)
	}
	skip := r.offset - int64(c.offset)
	r.rest = c.data[skip:]
	return nil
}

// Seek implements [io.Seeker]. It fetches nothing.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.Size()
	default:
		return 0, fmt.Errorf("seek %q: unknown whence %d", r.file.Name, whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %q: negative position", r.file.Name)
	}
	if offset != r.offset {
		r.stop()
		r.offset = offset
	}
	return offset, nil
}

// Close ends the fetching ahead.
func (r *Reader) Close() error {
	r.stop()
	return nil
}

func (r *Reader) stop() {
	if r.stream != nil {
		r.stream.close()
	}
	r.stream, r.rest = nil, nil
}

// fetched is a chunk with its bytes.
type fetched struct {
	offset uint64
	data   []byte
	err    error
}

// stream fetches chunks in parallel and hands them out in order.
type stream struct {
	cancel context.CancelFunc
	queue  chan chan fetched // in the order of the file; each gets one value
	ended  chan struct{}
}

func newStream(ctx context.Context, s *Snapshot, file Entry, from uint64) *stream {
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{cancel: cancel, queue: make(chan chan fetched, readAhead), ended: make(chan struct{})}
	go st.run(ctx, s, file, from)
	return st
}

func (st *stream) run(ctx context.Context, s *Snapshot, file Entry, from uint64) {
	defer close(st.ended)
	defer close(st.queue)
	for c, err := range s.Chunks(ctx, file) {
		if err == nil && c.Offset+c.Size <= from {
			continue
		}
		got := make(chan fetched, 1)
		select {
		case st.queue <- got:
		case <-ctx.Done():
			return
		}
		if err != nil {
			got <- fetched{err: err}
			return
		}
		go func() {
			data, err := s.ChunkData(ctx, c)
			got <- fetched{offset: c.Offset, data: data, err: err}
		}()
	}
}

func (st *stream) next() (fetched, bool) {
	got, ok := <-st.queue
	if !ok {
		return fetched{}, false
	}
	return <-got, true
}

func (st *stream) close() {
	st.cancel()
	for got := range st.queue {
		<-got
	}
	<-st.ended
}

// ChunkData returns the bytes of a chunk, which must not be changed.
func (s *Snapshot) ChunkData(ctx context.Context, c unixfs.Chunk) ([]byte, error) {
	if c.Data != nil {
		return c.Data, nil
	}
	blk, err := get(ctx, s.blocks, c.CID)
	if err != nil {
		return nil, err
	}
	if n := uint64(len(blk.RawData())); n != c.Size {
		return nil, fmt.Errorf("chunk %s has %d bytes where %d are declared: %w", c.CID, n, c.Size, snapshot.ErrFormat)
	}
	return blk.RawData(), nil
}
