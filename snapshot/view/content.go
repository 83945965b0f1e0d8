package view

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

const (
	windowSize  = 64 << 20 // bytes of a file whose chunks are looked up together
	windowParts = 4096     // of them at most
	keepFrom    = 64 << 10 // smaller chunks are read whole, and stay in the kernel's cache alone
	aheadChunks = 4        // fetched before they are asked for
	aheadOf     = 2 << 20  // bytes by which reads of a sequence may overtake each other
)

type windowKey struct {
	file cid.Cid
	n    uint64 // begins at n*windowSize
}

// window is where the content of a part of a file is.
type window struct {
	chunks []unixfs.Chunk
	end    uint64 // offset up to which they are known
}

// window returns the chunks around an offset: those of one aligned part of the file, or if these are too many to
// remember the next ones.
func (v *View) window(ctx context.Context, n node, offset uint64) (*window, error) {
	key := windowKey{n.cid, offset / windowSize}
	w, err := v.memory.windows.get(ctx, key, true, func() (*window, int, error) {
		w, err := v.readWindow(ctx, n, key.n*windowSize)
		if err != nil {
			return nil, 0, err
		}
		size := 128
		for _, c := range w.chunks {
			size += 128 + len(c.Data)
		}
		return w, size, nil
	})
	if err == nil && offset >= w.end {
		return v.readWindow(ctx, n, offset)
	}
	return w, err
}

func (v *View) readWindow(ctx context.Context, n node, from uint64) (*window, error) {
	w := &window{end: min((from/windowSize+1)*windowSize, n.size)}
	for c, err := range v.snap.ChunksFrom(ctx, n.entry(), from) {
		if err != nil {
			return nil, err
		}
		if c.Offset >= w.end {
			break
		}
		w.chunks = append(w.chunks, c)
		if len(w.chunks) == windowParts {
			w.end = min(w.end, c.Offset+c.Size)
			break
		}
	}
	return w, nil
}

// chunksAt calls each with the chunks of a file from an offset on, until it returns false.
func (v *View) chunksAt(ctx context.Context, n node, offset uint64, each func(unixfs.Chunk) (bool, error)) error {
	if n.cid.Prefix().Codec == cid.Raw {
		if offset < n.size {
			_, err := each(unixfs.Chunk{Size: n.size, CID: n.cid})
			return err
		}
		return nil
	}
	for offset < n.size {
		w, err := v.window(ctx, n, offset)
		if err != nil {
			return err
		}
		before := offset
		for _, c := range w.chunks {
			if c.Offset+c.Size <= offset {
				continue
			}
			if more, err := each(c); err != nil || !more {
				return err
			}
			offset = c.Offset + c.Size
		}
		if offset == before {
			return fmt.Errorf("file %s has nothing at %d: %w", n.cid, offset, snapshot.ErrFormat)
		}
	}
	return nil
}

// data returns the bytes of a chunk. They are kept if more of them will be asked for.
func (v *View) data(ctx context.Context, c unixfs.Chunk, keep bool) ([]byte, error) {
	if c.Data != nil {
		return c.Data, nil
	}
	return v.memory.chunks.get(ctx, c.CID.KeyString(), keep && c.Size >= keepFrom, func() ([]byte, int, error) {
		b, err := v.snap.ChunkData(ctx, c)
		return b, len(b), err
	})
}

// read returns the bytes of a file from an offset on, at most size, in pieces.
func (v *View) read(ctx context.Context, n node, offset uint64, size int) ([][]byte, error) {
	if n.kind != meta.File {
		return nil, fmt.Errorf("read %s: %w", n.kind, snapshot.ErrFormat)
	}
	var parts [][]byte
	end := min(offset+uint64(size), n.size)
	if offset >= end {
		return nil, nil
	}
	sequence := v.ahead.follows(n.id, offset, end)
	err := v.chunksAt(ctx, n, offset, func(c unixfs.Chunk) (bool, error) {
		whole := c.Offset >= offset && c.Offset+c.Size <= end
		b, err := v.data(ctx, c, !whole)
		if err != nil {
			return false, err
		}
		if uint64(len(b)) != c.Size {
			return false, fmt.Errorf("chunk %s of %d bytes: %w", c.CID, len(b), snapshot.ErrFormat)
		}
		from := max(offset, c.Offset) - c.Offset
		to := min(end, c.Offset+c.Size) - c.Offset
		parts = append(parts, b[from:to])
		return c.Offset+c.Size < end, nil
	})
	if err == nil && sequence && end < n.size {
		v.fetchAhead(n, end)
	}
	return parts, err
}

// ahead knows where files were read last.
type ahead struct {
	mu      sync.Mutex
	last    map[uint64]uint64 // end of the last read, by the file's number
	running int
	work    sync.WaitGroup
}

const maxAhead = 1024 // files

// follows reports whether a read goes on where earlier ones ended, and notes where it ends. Those of one reader
// may come in another order than they were made.
func (a *ahead) follows(id, offset, end uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, ok := a.last[id]
	if len(a.last) >= maxAhead && !ok || a.last == nil {
		a.last = map[uint64]uint64{}
	}
	follows := ok && offset <= last+aheadOf && last <= offset+aheadOf
	if !follows || end > last {
		a.last[id] = end
	}
	return follows
}

// run does some work beside, unless there is enough of it already.
func (a *ahead) run(work func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running >= 2*aheadChunks {
		return
	}
	a.running++
	a.work.Go(func() {
		work()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running--
	})
}

func (a *ahead) wait() { a.work.Wait() }

// fetchAhead gets the next large chunks. A failure is for the read that needs the chunk to tell.
func (v *View) fetchAhead(n node, offset uint64) {
	w, ok := v.memory.windows.peek(windowKey{n.cid, offset / windowSize})
	if !ok {
		return
	}
	left := aheadChunks
	for _, c := range w.chunks {
		if left == 0 {
			break
		}
		if c.Offset < offset || c.Data != nil || c.Size < keepFrom {
			continue
		}
		left--
		if v.memory.chunks.busy(c.CID.KeyString()) {
			continue
		}
		v.ahead.run(func() {
			ctx, done := v.within()
			defer done()
			v.data(ctx, c, true)
		})
	}
}
