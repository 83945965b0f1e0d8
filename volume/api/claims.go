package api

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

// A caller who saves a stat record claims that its roots are stored completely, and later snapshots, other
// users' too, rely on that. Claims are therefore checked: by a walk that ends at what is known to be complete,
// so that a snapshot costs its changed directories.

const (
	// maxClaimNodes bounds the nodes other than leaves that one walk remembers.
	maxClaimNodes = 1 << 20
	// maxProven bounds the roots that a session remembers.
	maxProven = 1 << 17
)

// claims are the roots that a session has shown to be complete.
type claims struct {
	mu     sync.Mutex
	proven map[string]struct{}
}

func (k *claims) has(c cid.Cid) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.proven[c.KeyString()]
	return ok
}

func (k *claims) add(roots []cid.Cid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proven == nil || len(k.proven) > maxProven {
		k.proven = make(map[string]struct{})
	}
	for _, c := range roots {
		k.proven[c.KeyString()] = struct{}{}
	}
}

// prove checks that the roots and all below them are stored. It is false, without an error, if that would take
// too much memory to find out; a block that is missing is an error that wraps [snapshot.ErrNotFound].
func (k *claims) prove(ctx context.Context, s Session, roots []cid.Cid) (bool, error) {
	seen := map[cid.Cid]struct{}{}
	open, err := k.unproven(ctx, s, roots, seen)
	for err == nil && len(open) > 0 && len(seen) <= maxClaimNodes {
		c := open[len(open)-1]
		open = open[:len(open)-1]
		var links, below []cid.Cid
		if links, err = linksOf(ctx, s, c); err == nil {
			below, err = k.unproven(ctx, s, links, seen)
			open = append(open, below...)
		}
	}
	if err != nil {
		return false, fmt.Errorf("a stat record's roots are not complete: %w", err)
	}
	if len(open) > 0 {
		return false, nil
	}
	k.add(roots)
	return true, nil
}

func linksOf(ctx context.Context, b snapshot.Blocks, c cid.Cid) ([]cid.Cid, error) {
	blk, err := b.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return snapshot.Links(blk)
}

// unproven returns those of cs below which it is still to be looked, and adds them to seen.
func (k *claims) unproven(ctx context.Context, s Session, cs []cid.Cid, seen map[cid.Cid]struct{}) ([]cid.Cid, error) {
	var ask []cid.Cid
	for _, c := range cs {
		p := c.Prefix()
		if p.Codec == cid.Raw && p.MhType == mh.IDENTITY || k.has(c) {
			continue
		}
		if _, again := seen[c]; !again {
			ask = append(ask, c)
		}
	}
	if len(ask) == 0 {
		return nil, nil
	}
	complete, err := s.Adopt(ctx, ask)
	if err != nil {
		return nil, err
	}
	var open []cid.Cid
	for i, c := range ask {
		switch {
		case complete[i]:
		case c.Prefix().Codec == cid.Raw:
			return nil, fmt.Errorf("block %s: %w", c, snapshot.ErrNotFound)
		default:
			seen[c] = struct{}{}
			open = append(open, c)
		}
	}
	return open, nil
}
