package head

import (
	"context"
	"fmt"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/unixfs"
)

// LabelRemoved is the label of a commit that ends a volume. Its value says nothing.
const LabelRemoved = "removed"

// Open reads the commit of a head, and checks that it is of this volume, has this sequence, and is a fork of the same.
func (h Head) Open(b blocks.Block) (*snapshot.Commit, error) {
	if b.Cid() != h.Commit {
		return nil, fmt.Errorf("block %s is not the head's commit %s: %w", b.Cid(), h.Commit, ErrFormat)
	}
	c, err := snapshot.DecodeCommit(b)
	if err != nil {
		return nil, err
	}
	if c.Volume != h.Volume.String() || c.Sequence != h.Sequence {
		return nil, fmt.Errorf("commit %s is state %d of %q, its head says %d of %s: %w",
			h.Commit, c.Sequence, c.Volume, h.Sequence, h.Volume, ErrFormat)
	}
	if c.Fork != h.Fork {
		return nil, fmt.Errorf("commit %s is a fork of %s, its head says of %s: %w", h.Commit, c.Fork.CID, h.Fork.CID, ErrFormat)
	}
	return c, nil
}

// Tombstone stores the empty tree and returns a commit of it that ends a volume whose newest states are parents.
// The caller says when and by whom it was made, encodes and signs it.
func (h Head) Tombstone(ctx context.Context, b snapshot.Blocks, parents ...cid.Cid) (*snapshot.Commit, error) {
	dir, err := unixfs.WriteDir(ctx, b, nil)
	if err != nil {
		return nil, fmt.Errorf("store the empty tree: %w", err)
	}
	c := &snapshot.Commit{
		Tree: dir.CID, Volume: h.Volume.String(), Time: time.Unix(0, 0).UTC(), Labels: map[string]string{LabelRemoved: ""},
		Import: snapshot.ImportInfo{Profile: unixfs.Profile}, Consistency: snapshot.Clean,
		Stats: snapshot.Stats{Dirs: 1}, NoXattrs: true,
	}
	parents = append([]cid.Cid{h.Commit}, parents...)
	if h.IsFork() {
		if c.Fork, err = snapshot.BranchOf(ctx, b, c.Volume, parents...); err != nil {
			return nil, fmt.Errorf("end volume %s: %w", h.Volume, err)
		}
	}
	if err := snapshot.Extend(ctx, b, c, parents...); err != nil {
		return nil, fmt.Errorf("end volume %s: %w", h.Volume, err)
	}
	return c, nil
}

// IsTombstone reports whether a commit ends its volume.
func IsTombstone(c *snapshot.Commit) bool {
	_, removed := c.Labels[LabelRemoved]
	return removed && c.Volume != ""
}
