// Package kept joins a host's own records (pins, tags, what its files were) with blocks in a Kubo daemon.
//
// Start with [New]. A [Host] is a [pinset.Set] and a [snapshot.Blocks]; what is imported goes through [Host.Session].
// Blocks that the host stored itself before it had a daemon are read where they are, and sent to the daemon when a
// commit that needs them is pinned, or all of them by [Host.Move].
//
// It guarantees: a pin is recorded only once the daemon keeps all of its blocks, and the daemon lets go of them only
// after the record is gone; [Host.Reconcile] mends what a crash in between left.
package kept

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/store"
)

// purpose is what the daemon's pins of a host are for.
const purpose = "kept"

// Options of a Host. All but Far are required.
type Options struct {
	Records *store.Store // of the host, and blocks from before it had a daemon
	Pins    *local.Set   // in Records
	Kubo    *kubo.Blocks
	Far     snapshot.Blocks // how blocks of the daemon are read, such as through a cache; Kubo if nil
	Host    string          // peer ID
}

// Host is what a host keeps, with its blocks in a Kubo daemon. It must be made by New; all methods are safe for
// concurrent use.
type Host struct {
	*local.Set // tags are read, and own commits marked, in the records
	o          Options

	recent recent

	mu     sync.Mutex        // held while it is decided what the daemon is to keep
	needed map[cid.Cid]*need // roots that it is asked to keep, and what helps with that: it does not let go of them

	sessionsMu sync.Mutex
	sessions   map[*Session]bool // that are open
}

var (
	_ pinset.Set          = (*Host)(nil)
	_ snapshot.Blocks     = (*Host)(nil)
	_ snapshot.ManyGetter = (*Host)(nil)
)

// New returns a host.
func New(o Options) *Host {
	if o.Far == nil {
		o.Far = o.Kubo
	}
	return &Host{Set: o.Pins, o: o, needed: map[cid.Cid]*need{}, sessions: map[*Session]bool{}}
}

// Get implements [snapshot.Blocks].
func (h *Host) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b := h.recent.get(c); b != nil {
		return b, nil
	}
	b, err := h.own(ctx, c)
	if err != nil || b != nil {
		return b, err
	}
	if b, err = h.o.Far.Get(ctx, c); err == nil {
		h.recent.remember(b)
	}
	return b, err
}

// own returns a block that the host stored itself, nil if it did not. One that is damaged is not missed: the daemon may
// have it.
func (h *Host) own(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	has, err := h.o.Records.Has(ctx, c)
	if err != nil || !has[0] {
		return nil, err
	}
	b, err := h.o.Records.Get(ctx, c)
	if errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, snapshot.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// GetMany implements [snapshot.ManyGetter].
func (h *Host) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	has, err := h.o.Records.Has(ctx, cs...)
	here := err != nil
	for _, one := range has {
		here = here || one
	}
	if !here {
		return snapshot.GetMany(ctx, h.o.Far, cs...)
	}
	return func(yield func(blocks.Block, error) bool) {
		for _, c := range cs {
			if !yield(h.Get(ctx, c)) {
				return
			}
		}
	}
}

// Has implements [snapshot.Blocks].
func (h *Host) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	has, err := h.o.Records.Has(ctx, cs...)
	if err != nil {
		return nil, err
	}
	var ask []cid.Cid
	var at []int
	for i, one := range has {
		if !one {
			ask, at = append(ask, cs[i]), append(at, i)
		}
	}
	if len(ask) == 0 {
		return has, nil
	}
	far, err := h.o.Kubo.Has(ctx, ask...)
	for i, one := range far {
		has[at[i]] = one
	}
	return has, err
}

// Put implements [snapshot.Blocks].
func (h *Host) Put(ctx context.Context, bs ...blocks.Block) error { return h.o.Kubo.Put(ctx, bs...) }

// Sync implements [snapshot.Blocks]: also what was put through sessions that are open.
func (h *Host) Sync(ctx context.Context) error {
	h.sessionsMu.Lock()
	open := slices.Collect(maps.Keys(h.sessions))
	h.sessionsMu.Unlock()
	for _, x := range open {
		if err := x.sender.flushed(ctx); err != nil && !errors.Is(err, kubo.ErrClosed) {
			return err
		}
	}
	return errors.Join(h.o.Records.Sync(ctx), h.o.Kubo.Sync(ctx))
}

// Add implements [pinset.Set]: the daemon keeps the root's blocks before it is recorded.
func (h *Host) Add(ctx context.Context, p pinset.Pin) error { return h.AddAfter(ctx, p, nil) }

// AddAfter is Add that calls first once the daemon keeps the blocks, and records the pin only then. Its error ends it.
// No other pin is recorded or removed meanwhile.
func (h *Host) AddAfter(ctx context.Context, p pinset.Pin, first func() error) error {
	return h.keeping(ctx, p.Root, func() error {
		if err := before(first); err != nil {
			return err
		}
		return h.Set.Add(ctx, p)
	})
}

func before(first func() error) error {
	if first == nil {
		return nil
	}
	return first()
}

// Tag keeps a root under a name.
func (h *Host) Tag(ctx context.Context, name string, root cid.Cid) error {
	return h.keeping(ctx, root, func() error {
		return h.retag(ctx, name, func() error { return h.Set.Tag(ctx, name, root) })
	})
}

// Untag takes a name away.
func (h *Host) Untag(ctx context.Context, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.retag(ctx, name, func() error { return h.Set.Untag(ctx, name) })
}

// retag changes what a name stands for, and lets go of what it stood for. It is called with mu held.
func (h *Host) retag(ctx context.Context, name string, change func() error) error {
	old, err := h.Tagged(ctx, name)
	if err != nil && !errors.Is(err, local.ErrNoTag) {
		return err
	}
	if old.Defined() {
		if err := h.leaving(ctx, old); err != nil {
			return err
		}
	}
	if err := change(); err != nil {
		return err
	}
	return h.release(ctx, old)
}

// Remove implements [pinset.Set].
func (h *Host) Remove(ctx context.Context, root cid.Cid, owner string) error {
	return h.RemoveAfter(ctx, root, owner, nil)
}

// RemoveAfter is Remove that calls first before the pin is removed. Its error ends it. No other pin is recorded or
// removed meanwhile.
func (h *Host) RemoveAfter(ctx context.Context, root cid.Cid, owner string, first func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := before(first); err != nil {
		return err
	}
	if err := h.leaving(ctx, root); err != nil {
		return err
	}
	if err := h.Set.Remove(ctx, root, owner); err != nil {
		return err
	}
	return h.release(ctx, root)
}

// leaving records that this host knows of what it keeps, which what an earlier version pinned does not say.
func (h *Host) leaving(ctx context.Context, root cid.Cid) error {
	if wanted, err := h.wanted(ctx, root); err != nil || !wanted {
		return err
	}
	return h.MarkKnown(ctx, root)
}

// Settled calls f with an owner's pin of a root, if there is one. No pin is recorded or removed meanwhile.
func (h *Host) Settled(ctx context.Context, root cid.Cid, owner string, f func(p pinset.Pin, pinned bool) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	status, err := h.Status(ctx, root)
	if err != nil {
		return err
	}
	return f(status.Of(owner))
}

// release has the daemon let go of a root that nothing keeps any more, once nobody needs it. It is called with mu held.
func (h *Host) release(ctx context.Context, root cid.Cid) error {
	if !root.Defined() {
		return nil
	}
	if n := h.needed[root]; n != nil {
		n.release = true
		return nil
	}
	wanted, err := h.wanted(ctx, root)
	if err != nil || wanted {
		return err
	}
	return h.o.Kubo.Release(ctx, h.keepOf(root))
}

func (h *Host) wanted(ctx context.Context, root cid.Cid) (bool, error) {
	status, err := h.Status(ctx, root)
	if err != nil || status.State != pinset.Unpinned {
		return true, err
	}
	for tag, err := range h.Tags(ctx) {
		if err != nil || tag.Root == root {
			return true, err
		}
	}
	return false, nil
}

func (h *Host) keepOf(root cid.Cid) kubo.Keep {
	return kubo.Keep{Host: h.o.Host, Purpose: purpose, Commit: root}
}

// epochRecord counts how often it was forgotten what files were.
const epochRecord = "kept/epoch"

func (h *Host) epoch(ctx context.Context) (uint64, error) {
	b, err := h.o.Records.Record(ctx, epochRecord)
	if len(b) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), err
}

func (h *Host) forgetFiles(ctx context.Context) error {
	n, err := h.epoch(ctx)
	if err != nil {
		return err
	}
	if err := h.o.Records.SetRecords(ctx, map[string][]byte{epochRecord: binary.BigEndian.AppendUint64(nil, n+1)}); err != nil {
		return fmt.Errorf("forget what files were: %w", err)
	}
	return nil
}
