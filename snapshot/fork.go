package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	"github.com/ipfs/go-cid"
)

// State is one of a volume. The zero State is none.
type State struct {
	CID      cid.Cid
	Sequence uint64
}

// Compare orders states of one volume: the larger one is of the larger sequence, then of the smaller CID.
func (s State) Compare(o State) int {
	return cmp.Or(cmp.Compare(s.Sequence, o.Sequence), bytes.Compare(o.CID.Bytes(), s.CID.Bytes()))
}

// Branch is the state by which a commit counts beside others of its volume: Fork, or itself.
func (c *Commit) Branch(root cid.Cid) State {
	if c.Fork.CID.Defined() {
		return c.Fork
	}
	return State{root, c.Sequence}
}

// BranchOf is the largest state by which one of some commits of a volume counts. They are read from b.
func BranchOf(ctx context.Context, b Blocks, volume string, commits ...cid.Cid) (s State, _ error) {
	for _, root := range commits {
		blk, err := b.Get(ctx, root)
		if err != nil {
			return s, fmt.Errorf("parent %s: %w", root, err)
		}
		c, err := DecodeCommit(blk)
		if err != nil {
			return s, err
		}
		if branch := c.Branch(root); c.Volume == volume && s.Compare(branch) < 0 {
			s = branch
		}
	}
	return s, nil
}

// Losing reports whether a commit of a volume that is made of parents is on a branch that lost, so that it says so in
// its Fork, which [BranchOf] tells: none of the parents is head, or comes after it. head is what is known to be where the
// volume is, none if nothing is, and fork says that it is on such a branch itself. The parents and their histories are
// read from b; a history that ends there too early may have the head in it.
func Losing(ctx context.Context, b Blocks, head State, fork bool, parents ...cid.Cid) (bool, error) {
	if !head.CID.Defined() || len(parents) == 0 {
		return false, nil
	}
	for _, p := range parents {
		if p == head.CID {
			return fork, nil
		}
		blk, err := b.Get(ctx, p)
		if err != nil {
			return false, fmt.Errorf("parent %s: %w", p, err)
		}
		c, err := DecodeCommit(blk)
		if err != nil {
			return false, err
		}
		if after, err := ComesAfter(ctx, b, c, head.CID, head.Sequence); after || err != nil {
			return fork, nil
		}
	}
	return true, nil
}
