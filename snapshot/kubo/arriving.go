package kubo

import (
	"context"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// arriving is a block in calls of Put that have not returned. The daemon stores the blocks of a call in an order of
// its own; so that nobody takes a block for stored before one that was put ahead of it, Has tells of none before
// all are there: it waits, for they may also have been there before. Get does not hide them for that reason.
type arriving struct {
	calls int
	seen  bool          // a call with it has succeeded
	over  chan struct{} // closed when there is no further call
}

// begin hides blocks until the function it returns is called.
func (b *Blocks) begin(bs []blocks.Block) (end func(ok bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, blk := range bs {
		hash := string(blk.Cid().Hash())
		a := b.puts[hash]
		if a == nil {
			a = &arriving{over: make(chan struct{})}
			b.puts[hash] = a
		}
		a.calls++
	}
	return func(ok bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, blk := range bs {
			hash := string(blk.Cid().Hash())
			a := b.puts[hash]
			a.seen = a.seen || ok
			if a.calls--; a.calls == 0 {
				close(a.over)
				delete(b.puts, hash)
			}
		}
	}
}

// arrived waits until a block is not in a call of Put any more, or a call with it has succeeded.
func (b *Blocks) arrived(ctx context.Context, c cid.Cid) error {
	b.mu.Lock()
	a := b.puts[string(c.Hash())]
	if a == nil || a.seen {
		b.mu.Unlock()
		return nil
	}
	b.mu.Unlock()
	select {
	case <-a.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
