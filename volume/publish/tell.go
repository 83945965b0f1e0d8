package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

// Tell implements [volume.Heads].
func (h *Heads) Tell(ctx context.Context, t volume.Told) error {
	for {
		v, err := h.volume(t.ID)
		if err != nil {
			return err
		}
		if err = h.record(ctx, v, t); err == nil {
			return h.Flush(ctx)
		}
		if now, nowErr := h.volume(t.ID); nowErr != nil || sameState(now, v) {
			return err
		}
		// Something was heard of the volume meanwhile, and what is told may be a fork of that.
	}
}

// sameState reports whether nothing was heard of a volume between two looks.
func sameState(a, b table.Volume) bool {
	return a.Head.Commit == b.Head.Commit && bytes.Equal(a.Binding.Data, b.Binding.Data)
}

// record records what is told of a volume, as v is what is known of it.
func (h *Heads) record(ctx context.Context, v table.Volume, t volume.Told) error {
	key, b, err := h.binding(v, t)
	if err != nil {
		return err
	}
	switch {
	case !t.Removed:
		if err = h.moved(ctx, v, t.At, key, b); errors.Is(err, errOther) && t.Key != nil {
			err = h.bound(ctx, b) // a host that has the state that came after it tells of that
		}
	case v.Removed():
	case v.Head.Commit.Defined():
		err = h.ended(ctx, v, t, key, b)
	case v.Binding.Data != nil:
		err = h.bound(ctx, b)
	}
	return err
}

// binding returns the volume's key, and a new binding if this host changed what the known one says.
func (h *Heads) binding(v table.Volume, t volume.Told) (crypto.PrivKey, *namespace.Binding, error) {
	ns, known := h.o.Namespace, v.Binding
	if known.Data == nil {
		key, generation, err := h.newKey(v, t)
		if err != nil {
			return nil, nil, err
		}
		if id, err := namespace.NameOf(key); err != nil || id != v.Key {
			return nil, nil, fmt.Errorf("the key of %q is not that of %s: %w", t.Name, t.ID, table.ErrConflict)
		}
		b, err := ns.Bind(t.Name, key, generation, 0)
		return key, &b, err
	}
	key, err := ns.Key(known)
	if err != nil {
		return nil, nil, err
	}
	name, removed := known.Name, t.Removed || known.Removed() && !t.Revived
	if t.Renamed {
		name = t.Name
	}
	if name == known.Name && removed == known.Removed() {
		return key, nil, nil
	}
	life := known.Life
	if known.Removed() != removed {
		life++
	}
	generation, err := h.o.Table.Generation(name, v.Key)
	if err != nil {
		return nil, nil, err
	}
	b, err := ns.Bind(name, key, generation, life)
	return key, &b, err
}

// bound records a binding alone, if there is a new one.
func (h *Heads) bound(ctx context.Context, b *namespace.Binding) error {
	if b == nil {
		return nil
	}
	_, err := h.o.Table.Learn(ctx, table.News{Bindings: []namespace.Binding{*b}, Own: true})
	return err
}

// errOther says that a commit is of another volume, such as the one that this one is the successor of.
var errOther = errors.New("it is one of another volume")

// moved records the head of a volume, and its binding. One that is neither before nor after the head that is known
// becomes a fork, of which others are told as well.
func (h *Heads) moved(ctx context.Context, v table.Volume, at volume.At, key crypto.PrivKey, b *namespace.Binding) error {
	if v.Head.Commit == at.Head {
		if b == nil {
			return nil
		}
		return h.o.Table.Advance(ctx, at.Head, v.Head, b) // the commit need not be here
	}
	c, err := commitOf(ctx, h.o.Blocks, at.Head)
	if err != nil {
		return err
	}
	if c.Volume != at.ID {
		return fmt.Errorf("%s is not a state of %s: %w", at.Head, at.Name, errOther)
	}
	next, err := head.SignCommit(key, at.Head, c)
	if err != nil {
		return err
	}
	prev := v.Head.Commit
	ended := v.Removed() && b == nil // by others: what is made in it all the same is kept, and does not bring it back
	if !prev.Defined() || !ended && after(c, prev) {
		return h.o.Table.Advance(ctx, prev, next, b)
	}
	if _, err := h.o.Table.Learn(ctx, table.News{Heads: []head.Head{next}, Own: true}); err != nil || b == nil {
		return err
	}
	if v, err = h.volume(at.ID); err != nil {
		return err
	}
	return h.o.Table.Advance(ctx, v.Head.Commit, v.Head, b)
}

// Replicas is how many peers of a cluster are to hold a commit, as it says itself; empty if it does not, or is not here.
func (h *Heads) Replicas(ctx context.Context, commit cid.Cid) string {
	c, err := commitOf(ctx, h.o.Blocks, commit)
	if err != nil {
		return ""
	}
	return volume.SaidReplicas(c)
}

// after reports whether a commit names another one as an ancestor itself.
func after(c *snapshot.Commit, earlier cid.Cid) bool {
	return slices.ContainsFunc(c.Recent, func(a snapshot.Ancestor) bool { return a.CID == earlier })
}

// ended makes and keeps the commit that ends a volume, and records it as the head. It is the same whenever it is made.
func (h *Heads) ended(ctx context.Context, v table.Volume, t volume.Told, key crypto.PrivKey, b *namespace.Binding) error {
	s, err := h.o.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	var more []cid.Cid
	if v.Head.Commit != t.Head {
		more = append(more, t.Head)
	}
	c, err := v.Head.Tombstone(ctx, s, more...)
	if err != nil {
		return err
	}
	c.Time, c.Author = t.Ended, h.o.Author
	blk, err := snapshot.EncodeCommit(c)
	if err != nil {
		return err
	}
	if err := s.Put(ctx, blk); err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	pin := pinset.Pin{Root: blk.Cid(), Owner: endOwner(v.Key), Name: t.Name + " removed", Created: t.Ended}
	if err := h.o.Pins.Add(ctx, pin); err != nil {
		return err
	}
	next, err := head.SignCommit(key, blk.Cid(), c)
	if err != nil {
		return err
	}
	return h.o.Table.Advance(ctx, v.Head.Commit, next, b)
}
