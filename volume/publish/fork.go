package publish

import (
	"context"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

// setTips says what the heads are that no other one comes after.
func (h *Heads) setTips(ctx context.Context, v table.Volume, at *volume.At) {
	if len(v.Forks) == 0 && !v.Removed() {
		return
	}
	for i, tip := range v.Tips() {
		switch c, err := commitOf(ctx, h.o.Blocks, tip.Commit); {
		case err == nil && head.IsTombstone(c):
			at.Ends, at.States = append(at.Ends, tip.Commit), append(at.States, c.Parents...)
		case err != nil && i == 0 && v.Removed():
			at.Ends = append(at.Ends, tip.Commit) // so it mostly is
		default:
			at.States = append(at.States, tip.Commit)
		}
	}
	if len(v.Forks) == 0 {
		at.States = nil
	}
}

// After reports whether a commit comes after an earlier one, by what is on this host: nothing is waited for, and what is
// not known is not after anything.
func (h *Heads) After(ctx context.Context, c, earlier cid.Cid) bool {
	commit, err := commitOf(ctx, h.o.Blocks, c)
	if err != nil {
		return false
	}
	var oldest uint64
	if e, err := commitOf(ctx, h.o.Blocks, earlier); err == nil {
		oldest = e.Sequence
	}
	is, err := snapshot.ComesAfter(ctx, volume.Here{Blocks: h.o.Blocks}, commit, earlier, oldest)
	return err == nil && is
}

// Newer returns the newest head of a volume that comes after a state of it; undefined if none is known to.
func (h *Heads) Newer(ctx context.Context, id string, state cid.Cid) (cid.Cid, error) {
	v, err := h.volume(id)
	if err != nil || !v.Head.Commit.Defined() {
		return cid.Undef, err
	}
	for _, tip := range v.Tips() {
		if h.After(ctx, tip.Commit, state) {
			return tip.Commit, nil
		}
	}
	return cid.Undef, nil
}
