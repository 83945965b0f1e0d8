package tree

import (
	"context"
	"errors"
	"fmt"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const (
	// aheadEntries is how many entries of a directory have their nodes fetched together.
	aheadEntries = 128
	// aheadBytes is how much of what was fetched together is kept until it is asked for.
	aheadBytes = 8 << 20
)

// nodes are the blocks a snapshot's directories are made of. From a store for which getting many at once
// costs less, a directory's are fetched together with those of its siblings, before they are asked for.
type nodes struct {
	snapshot.Blocks
	many snapshot.ManyGetter // nil: each block when it is asked for

	mu    sync.Mutex
	kept  map[cid.Cid]blocks.Block
	order []cid.Cid // of kept, the oldest first
	bytes int
}

func newNodes(b snapshot.Blocks) *nodes {
	n := &nodes{Blocks: b, kept: map[cid.Cid]blocks.Block{}}
	n.many, _ = b.(snapshot.ManyGetter)
	return n
}

// window is how many entries are worth looking at before the first is dealt with.
func (n *nodes) window() int {
	if n.many == nil {
		return 1
	}
	return aheadEntries
}

func (n *nodes) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	n.mu.Lock()
	b, ok := n.kept[c]
	n.mu.Unlock()
	if ok {
		return b, nil
	}
	return get(ctx, n.Blocks, c)
}

// get is b.Get, with an error that names the block also if it only took too long.
func get(ctx context.Context, b snapshot.Blocks, c cid.Cid) (blocks.Block, error) {
	blk, err := b.Get(ctx, c)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("nobody had block %s in time: %w", c, err)
	}
	return blk, err
}

// fetchBelow gets the nodes of some entries of a directory, and of directories the first of their rows.
func (n *nodes) fetchBelow(ctx context.Context, entries []Stored) {
	if n.many == nil {
		return
	}
	var cs []cid.Cid
	for _, st := range entries {
		if c := st.Child.CID; c.Defined() && c.Prefix().Codec != cid.Raw {
			cs = append(cs, c, st.Row.Entries)
		}
	}
	n.fetch(ctx, cs...)
}

// fetch gets blocks that will be asked for. What it cannot get is for Get to tell.
func (n *nodes) fetch(ctx context.Context, cs ...cid.Cid) {
	if n.many == nil {
		return
	}
	var missing []cid.Cid
	n.mu.Lock()
	for _, c := range cs {
		if _, ok := n.kept[c]; !ok && c.Defined() {
			missing = append(missing, c)
		}
	}
	n.mu.Unlock()
	if len(missing) < 2 {
		return
	}
	for b, err := range n.many.GetMany(ctx, missing...) {
		if err == nil {
			n.keep(b)
		}
	}
}

func (n *nodes) keep(b blocks.Block) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, again := n.kept[b.Cid()]; again {
		return
	}
	n.kept[b.Cid()] = b
	n.order = append(n.order, b.Cid())
	n.bytes += len(b.RawData())
	for n.bytes > aheadBytes {
		n.bytes -= len(n.kept[n.order[0]].RawData())
		delete(n.kept, n.order[0])
		n.order = n.order[1:]
	}
}
