package publish

import (
	"context"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/snapshot"
)

// After reports whether a commit comes after an earlier one, by what is on this host: nothing is waited for, and what is
// not known is not after anything.
func (h *Heads) After(ctx context.Context, c, earlier cid.Cid) bool {
	commit, err := commitOf(ctx, h.o.Blocks, c)
	if err != nil {
		return false
	}
	if after(commit, earlier) {
		return true
	}
	var oldest uint64
	if e, err := commitOf(ctx, h.o.Blocks, earlier); err == nil {
		oldest = e.Sequence
	}
	for a, err := range snapshot.History(ctx, here{h.o.Blocks}, commit) {
		if err != nil || a.Sequence < oldest {
			return false
		}
		if a.CID == earlier {
			return true
		}
	}
	return false
}

// Newer returns the newest head of a volume that comes after a state of it; undefined if none is known to.
func (h *Heads) Newer(ctx context.Context, id string, state cid.Cid) (cid.Cid, error) {
	v, err := h.volume(id)
	if err != nil || !v.Head.Commit.Defined() {
		return cid.Undef, err
	}
	for _, tip := range append([]head.Head{v.Head}, v.Forks...) {
		if h.After(ctx, tip.Commit, state) {
			return tip.Commit, nil
		}
	}
	return cid.Undef, nil
}
