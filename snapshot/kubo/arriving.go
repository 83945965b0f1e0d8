package kubo

import (
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// arriving is a block in calls of Put that have not returned. The daemon stores the blocks of a call in an order of
// its own; so that nobody takes a block for stored before one that was put ahead of it, Has tells of none before
// all are there. Get does not hide them: they may have been there before.
type arriving struct {
	calls int
	seen  bool // a call with it has succeeded
}

// begin hides blocks until the function it returns is called.
func (b *Blocks) begin(bs []blocks.Block) (end func(ok bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, blk := range bs {
		hash := string(blk.Cid().Hash())
		a := b.puts[hash]
		if a == nil {
			a = &arriving{}
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
				delete(b.puts, hash)
			}
		}
	}
}

func (b *Blocks) hidden(c cid.Cid) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.puts[string(c.Hash())]
	return a != nil && !a.seen
}
