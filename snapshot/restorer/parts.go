package restorer

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// intoGetter is what a store may have beyond [snapshot.Blocks]: Get into memory that is there already. A large
// file is then restored without allocating its size.
type intoGetter interface {
	GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
}

// withBlock calls use with the bytes of a block of about the given size. They are use's until it returns.
func (r *run) withBlock(c cid.Cid, size uint64, use func([]byte) error) error {
	into, ok := r.s.Blocks().(intoGetter)
	if !ok {
		blk, err := r.s.Blocks().Get(r.ctx, c)
		if err != nil {
			return err
		}
		return use(blk.RawData())
	}
	buf := r.buffer(size)
	defer r.buffers.Put(buf)
	data, err := into.GetInto(r.ctx, c, *buf)
	if err != nil {
		return err
	}
	return use(data)
}

// withContent is withBlock for the block of a task.
func (r *run) withContent(t task, use func([]byte) error) error {
	if t.content != nil {
		return use(t.content.RawData())
	}
	return r.withBlock(t.entry.CID, t.entry.Size, use)
}

// withChunk calls use with the bytes of a part of a file. They are use's until it returns.
func (r *run) withChunk(c unixfs.Chunk, use func([]byte) error) error {
	if c.Data != nil {
		return use(c.Data)
	}
	return r.withBlock(c.CID, c.Size, func(data []byte) error {
		if n := uint64(len(data)); n != c.Size {
			return fmt.Errorf("chunk %s has %d bytes where %d are declared: %w", c.CID, n, c.Size, snapshot.ErrFormat)
		}
		return use(data)
	})
}

// smallBuffer is the least size of a buffer, so that one serves most files.
const smallBuffer = 64 << 10

// buffer returns a buffer of at least n bytes; put it back into r.buffers.
func (r *run) buffer(n uint64) *[]byte {
	if buf, ok := r.buffers.Get().(*[]byte); ok && uint64(cap(*buf)) >= n {
		return buf
	}
	buf := make([]byte, max(n, smallBuffer))
	return &buf
}

// parts does something to each chunk of a file, by further goroutines as long as the run has some to spare.
type parts struct {
	r  *run
	do func(unixfs.Chunk) error
	wg sync.WaitGroup

	mu  sync.Mutex
	err error
}

// run returns the first error, when nothing is going on any more.
func (p *parts) run(e tree.Entry) error {
	for c, err := range p.r.s.Chunks(p.r.ctx, e) {
		if err == nil {
			err = p.r.ctx.Err()
		}
		if p.failed(err) {
			break
		}
		select {
		case p.r.spare <- struct{}{}:
			p.wg.Go(func() {
				defer func() { <-p.r.spare }()
				p.failed(p.do(c))
			})
		default:
			p.failed(p.do(c))
		}
	}
	p.wg.Wait()
	return p.err
}

// failed notes an error, and reports whether there has been one.
func (p *parts) failed(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	return p.err != nil
}
