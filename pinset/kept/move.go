package kept

import (
	"context"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/kubo"
)

// sendAtOnce is how many bytes of blocks are sent together.
const sendAtOnce = 16 << 20

// send puts those blocks of a root into the daemon that this host has and the daemon lacks, and returns how many.
func (h *Host) send(ctx context.Context, x *kubo.Session, root cid.Cid, sent func(blocks, bytes int)) (total int, _ error) {
	var batch []blocks.Block
	size := 0
	flush := func() error {
		names := make([]cid.Cid, len(batch))
		for i, b := range batch {
			names[i] = b.Cid()
		}
		has, err := x.Has(ctx, names...)
		if err != nil {
			return err
		}
		lacking := batch[:0]
		bytes := 0
		for i, b := range batch {
			if !has[i] {
				lacking = append(lacking, b)
				bytes += len(b.RawData())
			}
		}
		if len(lacking) > 0 {
			if err := x.Put(ctx, lacking...); err != nil {
				return err
			}
		}
		if total += len(lacking); sent != nil {
			sent(len(lacking), bytes)
		}
		batch, size = nil, 0
		return nil
	}
	err := snapshot.WalkDAG(ctx, h, []cid.Cid{root}, func(c cid.Cid, b blocks.Block, err error) error {
		if err != nil {
			return fmt.Errorf("send %s to the daemon: %w", root, err)
		}
		batch = append(batch, b)
		if size += len(b.RawData()); size < sendAtOnce {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return total, err
}

// Moved is what Move did.
type Moved struct {
	Roots  int `json:"roots"`
	Blocks int `json:"blocks"` // sent to the daemon; it had the others
	Bytes  int `json:"bytes"`
}

// Move sends all that is kept to the daemon and has it kept there. Nothing is taken away here. progress, if not nil, is
// called with what was sent.
func (h *Host) Move(ctx context.Context, progress func(blocks, bytes int)) (m Moved, _ error) {
	roots, err := h.roots(ctx)
	if err != nil {
		return m, err
	}
	for root := range roots {
		x := h.o.Kubo.Session()
		_, err := h.send(ctx, x, root, func(n, bytes int) {
			m.Blocks += n
			m.Bytes += bytes
			if progress != nil {
				progress(n, bytes)
			}
		})
		if err == nil {
			err = x.Sync(ctx)
		}
		if err == nil {
			err = h.o.Kubo.Keep(ctx, h.keepOf(root))
		}
		if closeErr := x.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return m, err
		}
		m.Roots++
	}
	return m, nil
}

// roots are all that pins and tags keep.
func (h *Host) roots(ctx context.Context) (map[cid.Cid]bool, error) {
	roots := map[cid.Cid]bool{}
	for p, err := range h.All(ctx) {
		if err != nil {
			return nil, err
		}
		roots[p.Root] = true
	}
	for t, err := range h.Tags(ctx) {
		if err != nil {
			return nil, err
		}
		roots[t.Root] = true
	}
	return roots, nil
}

// Reconciled is what Reconcile found.
type Reconciled struct {
	Released int // pins and what sessions held
	Unknown  int // pins of this host of which its records say nothing; they stay
}

// Reconcile has the daemon let go of what nothing here keeps, and of what sessions held that were never closed. No
// session may be open.
//
// What these records never knew of stays: it was kept by a copy of them that is in use as well, or after they were copied
// away.
func (h *Host) Reconcile(ctx context.Context, dryRun bool) (r Reconciled, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted, err := h.roots(ctx)
	if err != nil {
		return r, err
	}
	var gone []kubo.Keep
	for k, err := range h.o.Kubo.Kept(ctx) {
		if err != nil {
			return r, err
		}
		if k.Host != h.o.Host || k.Purpose != purpose || wanted[k.Commit] || h.needed[k.Commit] != nil {
			continue
		}
		known, err := h.Known(ctx, k.Commit)
		if err != nil {
			return r, err
		}
		if known {
			gone = append(gone, k)
		} else {
			r.Unknown++
		}
	}
	if dryRun {
		r.Released = len(gone)
		return r, nil
	}
	for _, k := range gone {
		if err := h.o.Kubo.Release(ctx, k); err != nil {
			return r, err
		}
		r.Released++
	}
	held, err := h.o.Kubo.ReleaseHeld(ctx)
	r.Released += held
	return r, err
}

// Clear removes the blocks that the host stored itself. It is for when Move has succeeded: they are not looked at.
func (h *Host) Clear(ctx context.Context) error {
	sweep, err := h.o.Records.BeginSweep(ctx)
	if err != nil {
		return err
	}
	defer sweep.Close()
	if _, _, err := sweep.Remove(ctx, false, func(context.Context) (bool, error) { return false, nil }); err != nil {
		return err
	}
	_, err = sweep.Compact(ctx)
	return err
}
