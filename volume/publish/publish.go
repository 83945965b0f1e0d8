// Package publish tells the other hosts of a namespace where this host's volumes are, and this host where theirs are:
// it signs heads and names, keeps them in the host's table, and hands their pins to a queue.
//
// Start with [New]: its [Heads] are the [volume.Heads] of a Manager. [Heads.Learn] reads what others have told from the
// pins of the namespace.
//
// It guarantees: what [Heads.Tell] returned from is in the table, and in the queue once there is one; a head is signed
// for a commit that says it is the volume's, and for no other.
package publish

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

// Options of Heads. All but Send are required.
type Options struct {
	Namespace *namespace.Namespace
	Table     *table.Table
	Begin     func(ctx context.Context) (volume.Session, error)
	Blocks    snapshot.Blocks
	Pins      pinset.Set // of this host
	Author    string     // peer ID of the host
	// Send records durably that others are to get the pin of a volume's head; nil: they are told once there is one.
	Send func(ctx context.Context, volume string, p pinset.Pin) error
	// Refresh calls Learn with what others have told lately; nil: there is nothing to ask. If it fails, what is known
	// has to do.
	Refresh func(ctx context.Context) error
}

// Heads are the heads of a namespace's volumes. It must be made by New; all methods are safe for concurrent use.
type Heads struct {
	o Options

	sending sync.Mutex // so that an older head is not sent after a newer one
}

var _ volume.Heads = (*Heads)(nil)

// New returns the heads of a namespace.
func New(o Options) *Heads { return &Heads{o: o} }

// History is the ancestors of commits, for [table.Open], as far as they are among the blocks that are here.
func History(b snapshot.Blocks) table.History {
	return func(ctx context.Context, c cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
		return func(yield func(snapshot.Ancestor, error) bool) {
			commit, err := commitOf(ctx, b, c)
			if err != nil {
				yield(snapshot.Ancestor{}, err)
				return
			}
			for a, err := range snapshot.History(ctx, b, commit) {
				if !yield(a, err) || err != nil {
					return
				}
			}
		}
	}
}

func commitOf(ctx context.Context, b snapshot.Blocks, c cid.Cid) (*snapshot.Commit, error) {
	has, err := b.Has(ctx, c)
	if err != nil {
		return nil, err
	}
	if !has[0] {
		return nil, fmt.Errorf("commit %s: %w", c, snapshot.ErrNotFound)
	}
	blk, err := b.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return snapshot.DecodeCommit(blk)
}

// Begin implements [volume.Heads].
func (h *Heads) Begin(_ context.Context, name string) (string, error) {
	if !h.o.Namespace.CanWrite() {
		return "", fmt.Errorf("make volume %q: %w", name, namespace.ErrReadOnly)
	}
	key, _, err := h.o.Table.NewKey(h.o.Namespace, name)
	if err != nil {
		return "", err
	}
	id, err := namespace.NameOf(key)
	return id.String(), err
}

// Last implements [volume.Heads].
func (h *Heads) Last(ctx context.Context, id string) (cid.Cid, error) {
	h.refresh(ctx)
	v, err := h.volume(id)
	return v.Head.Commit, err
}

// volume is what is known of a volume, which may be nothing.
func (h *Heads) volume(id string) (table.Volume, error) {
	key, err := namespace.ParseName(id)
	if err != nil {
		return table.Volume{}, err
	}
	v, err := h.o.Table.Volume(key)
	if errors.Is(err, table.ErrUnknown) {
		return table.Volume{Key: key}, nil
	}
	return v, err
}

// Find implements [volume.Heads].
func (h *Heads) Find(ctx context.Context, name string) (volume.At, error) {
	v, err := h.o.Table.Named(name)
	if errors.Is(err, table.ErrUnknown) {
		h.refresh(ctx)
		v, err = h.o.Table.Named(name)
	}
	if errors.Is(err, table.ErrUnknown) || err == nil && (v.Removed() || !v.Head.Commit.Defined()) {
		return volume.At{}, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
	}
	return at(v), err
}

func (h *Heads) refresh(ctx context.Context) {
	if h.o.Refresh != nil {
		h.o.Refresh(ctx) // what is known has to do, if nothing newer can be had
	}
}

// All implements [volume.Heads].
func (h *Heads) All(ctx context.Context) (all []volume.At, _ error) {
	h.refresh(ctx)
	vs, err := h.o.Table.Volumes()
	for _, v := range vs {
		if v.Named && !v.Removed() && v.Head.Commit.Defined() {
			all = append(all, at(v))
		}
	}
	return all, err
}

func at(v table.Volume) volume.At {
	return volume.At{ID: v.Key.String(), Name: v.Binding.Name, Head: v.Head.Commit, Sequence: v.Head.Sequence}
}

// Learn reads a set of pins that others may have written, and returns how many volumes moved by it, and how many pins
// were no head that can be believed, those of other purposes not among them.
func (h *Heads) Learn(ctx context.Context, pins iter.Seq2[pinset.Pin, error]) (moved, refused int, _ error) {
	var news table.News
	var dropped directory.Dropped
	for e, err := range directory.Entries(h.o.Namespace, pins, &dropped) {
		if err != nil {
			return 0, 0, err
		}
		news.Heads = append(news.Heads, e.Head)
		news.Bindings = append(news.Bindings, e.Binding)
	}
	volumes, err := h.o.Table.Learn(ctx, news)
	return len(volumes), dropped.Oversized + dropped.Malformed + dropped.Forged + dropped.Misnamed, err
}

// Flush hands to Send what it was not given yet.
func (h *Heads) Flush(ctx context.Context) error {
	if h.o.Send == nil {
		return nil
	}
	h.sending.Lock()
	defer h.sending.Unlock()
	vs, err := h.o.Table.Unsent()
	if err != nil {
		return err
	}
	for _, v := range vs {
		if v.Binding.Data == nil || v.Head.Record == nil {
			continue
		}
		p, err := directory.Pin(h.o.Namespace, directory.Entry{Head: v.Head, Binding: v.Binding})
		if err == nil {
			err = h.o.Send(ctx, v.Key.String(), p)
		}
		if err == nil {
			err = h.o.Table.Sent(v)
		}
		if err != nil {
			return fmt.Errorf("tell others of %s: %w", v.Binding.Name, err)
		}
	}
	return nil
}

// endOwner is whose pin that of a volume's end is on this host. It stays: with it the volume's key is never used again.
func endOwner(v ipns.Name) string { return "ended/" + v.String() }
