package treetest

import (
	"context"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Stalled are blocks of which one does not come: who gets it waits until ctx is done.
type Stalled struct {
	snapshot.Blocks
	stuck cid.Cid
	Asked chan struct{} // has an element for each time that somebody waits for it
}

// NewStalled returns the blocks of b, but for the one that is stuck.
func NewStalled(b snapshot.Blocks, stuck cid.Cid) *Stalled {
	return &Stalled{b, stuck, make(chan struct{}, 100)}
}

// Get implements [snapshot.Blocks].
func (s *Stalled) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if c == s.stuck {
		s.Asked <- struct{}{}
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", snapshot.ErrUnavailable, ctx.Err())
	}
	return s.Blocks.Get(ctx, c)
}
