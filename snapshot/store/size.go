package store

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Size returns how many bytes a block has, without reading them. The error wraps [snapshot.ErrNotFound] if Has answers
// that it is not there.
func (s *Store) Size(ctx context.Context, c cid.Cid) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n, err := nameOf(c)
	if err != nil {
		return 0, err
	}
	if n.identity {
		return len(n.hash) - n.digestAt, nil
	}
	e, ok, err := s.find(n.hash)
	if err == nil && (!ok || s.lost(e)) {
		err = snapshot.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("size of block %s: %w", c, err)
	}
	return int(e.size), nil
}
