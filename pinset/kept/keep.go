package kept

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// need is that of a root while the daemon is asked to keep it, or something that has much in common with it.
type need struct {
	by      int
	release bool // as far as somebody knew who wanted it gone meanwhile
}

func (h *Host) need(root cid.Cid) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.needed[root] == nil {
		h.needed[root] = new(need)
	}
	h.needed[root].by++
}

// unneed ends what need began, and does what was not done meanwhile. It is called with mu held.
func (h *Host) unneed(ctx context.Context, root cid.Cid) error {
	n := h.needed[root]
	if n.by--; n.by > 0 {
		return nil
	}
	delete(h.needed, root)
	if !n.release {
		return nil
	}
	return h.release(ctx, root)
}

// keeping has the daemon keep a root, which may take as long as fetching it from others does and holds up nobody, and
// then records why, with mu held. That it knows of the root is recorded before: see Reconcile.
func (h *Host) keeping(ctx context.Context, root cid.Cid, record func() error) error {
	if err := h.MarkKnown(ctx, root); err != nil {
		return err
	}
	h.need(root)
	err := h.keep(ctx, root)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		err = record()
	}
	return errors.Join(err, h.unneed(ctx, root))
}

// keep has the daemon keep a root. What it lacks and this host has is sent.
func (h *Host) keep(ctx context.Context, root cid.Cid) error {
	err := h.keepWhole(ctx, root)
	if !errors.Is(err, snapshot.ErrUnavailable) && !errors.Is(err, snapshot.ErrNotFound) {
		return err
	}
	x := h.o.Kubo.Session()
	sent, sendErr := h.send(ctx, x, root, nil)
	if sendErr == nil && sent > 0 {
		err = h.keepWhole(ctx, root)
	}
	err = errors.Join(err, x.Close())
	if err != nil && ctx.Err() == nil {
		// What files were is believed only as long as the daemon has what was made of them.
		err = errors.Join(err, h.forgetFiles(ctx))
	}
	return err
}

// keepWhole has the daemon look at no more than the difference from a parent, if it keeps that.
func (h *Host) keepWhole(ctx context.Context, root cid.Cid) error {
	b, err := h.Get(ctx, root)
	if err != nil {
		return err
	}
	if c, err := snapshot.DecodeCommit(b); err == nil && len(c.Parents) > 0 {
		h.need(c.Parents[0])
		wanted, err := h.wanted(ctx, c.Parents[0])
		if err == nil && wanted {
			err = h.o.Kubo.KeepAfter(ctx, h.keepOf(root), c.Parents[0])
		}
		h.mu.Lock()
		err = errors.Join(err, h.unneed(ctx, c.Parents[0]))
		h.mu.Unlock()
		if wanted || err != nil {
			return err
		}
	}
	return h.o.Kubo.Keep(ctx, h.keepOf(root))
}
