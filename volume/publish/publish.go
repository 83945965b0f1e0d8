// Package publish tells the other hosts of a namespace where this host's volumes are, and this host where theirs are:
// it signs heads and names, keeps them in the host's table, and hands their pins to a queue.
//
// Start with [New]: its [Heads] are the [volume.Heads] of a Manager. [Heads.Learn] reads what others have told from the
// pins of the namespace.
//
// It guarantees: what [Heads.Tell] returned from is in the table, and in the queue once there is one, also if it is a
// fork; a head is signed for a commit that says it is the volume's, and for no other.
package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ipfs/boxo/ipns"

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
}

// Heads are the heads of a namespace's volumes. It must be made by New; all methods are safe for concurrent use.
type Heads struct {
	o Options

	sending sync.Mutex // so that an older head is not sent after a newer one

	seenMu sync.Mutex
	seen   map[fingerprint]bool // pins that were learned from
}

var _ volume.Heads = (*Heads)(nil)

// New returns the heads of a namespace.
func New(o Options) *Heads { return &Heads{o: o, seen: map[fingerprint]bool{}} }

// Writable implements [volume.Heads].
func (h *Heads) Writable() error {
	if !h.o.Namespace.CanWrite() {
		return namespace.ErrReadOnly
	}
	return nil
}

// Begin implements [volume.Heads].
func (h *Heads) Begin(_ context.Context, name string, given *volume.Key) (string, error) {
	if err := h.Writable(); err != nil {
		return "", fmt.Errorf("make volume %q: %w", name, err)
	}
	if given != nil {
		return h.beginWith(given)
	}
	key, _, err := h.o.Table.NewKey(h.o.Namespace, name)
	if err != nil {
		return "", err
	}
	id, err := namespace.NameOf(key)
	return id.String(), err
}

// Last implements [volume.Heads].
func (h *Heads) Last(ctx context.Context, id string) (volume.At, error) {
	v, err := h.volume(id)
	if err != nil || !v.Head.Commit.Defined() || v.Binding.Data == nil {
		return volume.At{}, err
	}
	last := at(v)
	h.setTips(ctx, v, &last)
	return last, nil
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
func (h *Heads) Find(_ context.Context, name string) (volume.At, error) {
	v, err := h.o.Table.Named(name)
	if errors.Is(err, table.ErrUnknown) || err == nil && (v.Removed() || !v.Head.Commit.Defined()) {
		return volume.At{}, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
	}
	return at(v), err
}

// All implements [volume.Heads].
func (h *Heads) All(ctx context.Context) (all []volume.At, _ error) {
	vs, err := h.o.Table.Volumes()
	for _, v := range vs {
		if v.Named && !v.Removed() && v.Head.Commit.Defined() {
			last := at(v)
			h.setTips(ctx, v, &last)
			all = append(all, last)
		}
	}
	return all, err
}

func at(v table.Volume) volume.At {
	return volume.At{ID: v.Key.String(), Name: v.Binding.Name, Head: v.Head.Commit, Sequence: v.Head.Sequence, Removed: v.Removed(), Fork: v.Head.IsFork()}
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
		if err := h.send(ctx, v); err != nil {
			return fmt.Errorf("tell others of %s: %w", v.Binding.Name, err)
		}
	}
	return nil
}

// send hands over every head that others were not told, also one that is a fork.
func (h *Heads) send(ctx context.Context, v table.Volume) error {
	for _, untold := range v.Untold {
		p, err := directory.Pin(h.o.Namespace, directory.Entry{Head: untold, Binding: v.Binding})
		if err != nil {
			return err
		}
		if err := h.o.Send(ctx, v.Key.String(), p); err != nil {
			return err
		}
	}
	return h.o.Table.Sent(v)
}

// EndOwner begins whose pin that of a volume's end is on this host. It stays: with it the volume's key is never used again.
const EndOwner = "ended/"

func endOwner(v ipns.Name) string { return EndOwner + v.String() }
