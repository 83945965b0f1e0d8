package table

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
)

// Knows reports whether a binding and a head of its volume, or the binding alone if the head is zero, say nothing new:
// the binding is not newer than the one known, and the head is a tip or an ancestor of one, as far as ancestors are known.
func (t *Table) Knows(ctx context.Context, h head.Head, b namespace.Binding) (bool, error) {
	v, err := t.Volume(b.Volume)
	switch {
	case errors.Is(err, ErrUnknown):
		return false, nil
	case err != nil || v.Binding.Data == nil || namespace.Compare(b, v.Binding) > 0:
		return false, err
	case h.Record == nil:
		return true, nil
	}
	for _, tip := range v.Tips() {
		if tip.Commit == h.Commit {
			return true, nil
		}
		covered := map[cid.Cid]bool{}
		if h.Sequence < tip.Sequence {
			err = t.cover(ctx, covered, tip, []head.Head{h})
		}
		if err != nil || covered[h.Commit] {
			return err == nil, err
		}
	}
	return false, nil
}

// Revision is a number that is another one after each change.
func (t *Table) Revision() (n uint64, _ error) {
	return n, t.db.View(func(tx *bolt.Tx) error {
		n = uint64(tx.ID())
		return nil
	})
}
