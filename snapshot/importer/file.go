package importer

import (
	"context"
	"io"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/holes"
	"github.com/volary/volary/snapshot/unixfs"
)

// file is an open regular file. As a task it is a large one, whose jobs are spans of it, read in any order.
type file struct {
	ref
	*run
	fd     int
	before unix.Stat_t

	next int64 // offset of the next job, guarded by run.mu

	mu      sync.Mutex
	builder *unixfs.FileBuilder
	ready   map[int64][]leaf // by offset: read, but something before them is not
	added   int64            // bytes given to the builder, while nothing is missing
	left    int64            // jobs not done
	torn    bool             // the file ended early; added is its size
	holes   holeMap
}

type leaf struct {
	cid  cid.Cid
	size int64
}

func (f *file) fault(op string, err error) error {
	if err == f.seg.dir.ctx.Err() {
		return err
	}
	return f.seg.dir.fault(op, f.entry().name, err)
}

func (f *file) start(r *run) {
	f.run = r
	f.builder = unixfs.NewFileBuilder(r.put)
	f.ready = map[int64][]leaf{}
	f.next, f.added, f.torn = 0, 0, false
	f.left = (f.before.Size + r.span - 1) / r.span
	f.holes = holeMap{}
	r.push(f)
}

// take is called with run.mu held.
func (f *file) take() (func(*worker) error, bool) {
	off := f.next
	f.next += f.span
	return func(w *worker) error {
		leaves, err := w.readSpan(f, off)
		if err != nil {
			return f.fault("read", err)
		}
		return w.spanDone(f, off, leaves)
	}, f.next < f.before.Size
}

// readSpan reads and stores the chunks of a span.
func (w *worker) readSpan(f *file, off int64) ([]leaf, error) {
	want := min(f.span, f.before.Size-off)
	if off == 0 {
		holy, err := holes.In(f.fd, &f.before)
		if err != nil {
			return nil, err
		}
		f.holes.found(holy)
	}
	hole, err := f.holes.cover(f.fd, off, want)
	if err != nil {
		return nil, err
	}
	if hole && want%f.chunker.size == 0 {
		zero, err := w.zero.leaf(w.ctx, w.put, f.chunker.size)
		if err != nil {
			return nil, err
		}
		leaves := make([]leaf, want/f.chunker.size)
		for i := range leaves {
			leaves[i] = leaf{zero, f.chunker.size}
		}
		return leaves, nil
	}
	buf := w.content(want)[:want]
	n, err := pread(f.fd, buf, off)
	if err != nil {
		return nil, err
	}
	var leaves []leaf
	var bs []blocks.Block
	for rest := buf[:n]; len(rest) > 0; {
		chunk := rest[:min(int64(len(rest)), f.chunker.size)]
		rest = rest[len(chunk):]
		b := unixfs.Leaf(chunk)
		bs = append(bs, b)
		leaves = append(leaves, leaf{b.Cid(), int64(len(chunk))})
	}
	return leaves, w.put.putCopy(w.ctx, bs...)
}

// spanDone adds what is next to the builder; after the last span the file is done.
func (w *worker) spanDone(f *file, off int64, leaves []leaf) error {
	f.mu.Lock()
	f.ready[off] = leaves
	for !f.torn {
		next, ok := f.ready[f.added]
		if !ok {
			break
		}
		delete(f.ready, f.added)
		want := min(f.added+f.span, f.before.Size)
		for _, l := range next {
			if err := f.builder.Add(w.ctx, l.cid, uint64(l.size)); err != nil {
				f.mu.Unlock()
				return err
			}
			f.added += l.size
		}
		if f.torn = f.added < want; f.added == f.before.Size {
			break
		}
	}
	f.left--
	last := f.left == 0
	f.mu.Unlock()
	if !last {
		return nil
	}
	root, err := f.builder.Finish(w.ctx)
	if err != nil {
		return err
	}
	f.builder, f.ready = nil, nil
	return w.readDone(f, content{root: root, size: uint64(f.added), holy: f.holes.any(), torn: f.torn})
}

// readStream reads a large file from its beginning to its end, for a chunker that needs that.
func (w *worker) readStream(f *file) (content, error) {
	c := content{}
	var err error
	if c.holy, err = holes.In(f.fd, &f.before); err != nil {
		return c, err
	}
	p := &preader{ctx: w.ctx, fd: f.fd, end: f.before.Size}
	c.root, err = w.storeStream(p)
	c.size, c.torn = uint64(p.off), p.off != f.before.Size
	return c, err
}

// storeStream stores what r reads, cut by the content.
func (w *worker) storeStream(r io.Reader) (unixfs.Child, error) {
	err := w.chunker.split(r, func(data []byte) error {
		b := unixfs.Leaf(data)
		if err := w.put.Put(w.ctx, b); err != nil {
			return err
		}
		return w.builder.Add(w.ctx, b.Cid(), uint64(len(data)))
	})
	if err != nil {
		return unixfs.Child{}, err
	}
	return w.builder.Finish(w.ctx)
}

// preader reads a file up to an end that was known before, until ctx ends.
type preader struct {
	ctx      context.Context
	fd       int
	off, end int64
}

func (p *preader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	b = b[:min(int64(len(b)), p.end-p.off)]
	n, err := pread(p.fd, b, p.off)
	p.off += int64(n)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}
