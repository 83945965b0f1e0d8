package volume

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/volary/volary/snapshot/tree"
)

// keepAgain is how long it takes until what could not be pinned is tried again.
const keepAgain = 30 * time.Second

// adopted has Run keep the state of a volume that other hosts made: it may be all to be fetched, so nobody waits for it.
func (m *Manager) adopted(r *record) {
	m.setUnkept(r.ID, true)
	select {
	case m.adoptions <- struct{}{}:
	default:
	}
}

func (m *Manager) setUnkept(id string, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unkept[id] = is; !is {
		delete(m.unkept, id)
	}
}

// keepAdopted pins what was adopted, until ctx is done.
func (m *Manager) keepAdopted(ctx context.Context) {
	for {
		var again <-chan time.Time
		m.mu.Lock()
		ids := slices.Sorted(maps.Keys(m.unkept))
		m.mu.Unlock()
		for _, id := range ids {
			m.setUnkept(id, false) // what is adopted from now on is another state
			err := m.keepHead(ctx, id)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				m.log.Warn("the state that another host made is not kept yet", logVolume, id, logError, err)
				m.setUnkept(id, true)
				again = time.After(keepAgain)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-m.adoptions:
		case <-again:
		}
	}
}

// keepHead pins the head of a volume, with all that has to be fetched for that, and the base of its changes. It holds no
// lock meanwhile: what is taken up is let go of if the volume is gone then.
func (m *Manager) keepHead(ctx context.Context, id string) error {
	r, err := m.db.ofID(id)
	if err != nil || r == nil {
		return err
	}
	roots := []CID{r.Head}
	if r.Overlay != nil && r.Overlay.Base != r.Head {
		roots = append(roots, r.Overlay.Base)
	}
	for _, root := range roots {
		status, err := m.o.Pins.Status(ctx, root.Cid)
		if _, pinned := status.Of(pinOwner(r)); pinned || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		t, err := tree.Open(ctx, m.o.Blocks, root.Cid)
		if err != nil {
			return err
		}
		at := *r
		at.Head, at.Sequence = root, t.Commit.Sequence
		if err := m.o.Pins.Add(ctx, pinOf(&at, t.Commit.Time)); err != nil {
			return err
		}
		if still, err := m.db.ofID(id); err != nil || still != nil {
			continue
		}
		if removed, err := m.db.inTrash(id); err != nil || removed {
			return err
		}
		if err := m.o.Pins.Remove(ctx, root.Cid, pinOwner(r)); err != nil {
			return err
		}
	}
	return nil
}
