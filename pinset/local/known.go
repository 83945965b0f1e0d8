package local

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"
)

// MarkKnown records that this host is about to keep a root, or kept it. The mark keeps no block and outlives the pin; what
// somebody marked as made here needs none.
func (s *Set) MarkKnown(ctx context.Context, root cid.Cid) error {
	if known, err := s.Known(ctx, root); err != nil || known {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.set(ctx, knownPrefix+root.KeyString(), knownRecord{Version: recordVersion}); err != nil {
		return fmt.Errorf("mark %s as known: %w", root, err)
	}
	return nil
}

// Known tells whether this host ever kept a root, or was about to, or made it.
func (s *Set) Known(ctx context.Context, root cid.Cid) (bool, error) {
	value, err := s.store.Record(ctx, knownPrefix+root.KeyString())
	if err != nil || value != nil {
		return value != nil, err
	}
	return s.ownedBySomebody(ctx, root)
}
