package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
)

// Hear takes over what other hosts did to the volumes that are recorded here: they gave them other names, removed them,
// or brought them back. A volume that is mounted, or has changes that are not committed, stays as it is until it has none. What goes
// wrong with one volume is logged, and hinders no other.
func (m *Manager) Hear(ctx context.Context) error {
	m.refresh(ctx)
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		return err
	}
	removed, err := m.db.list(bucketTrash)
	if err != nil {
		return err
	}
	for _, r := range append(rs, removed...) {
		take := m.hearOf
		if !r.Removed.IsZero() {
			take = m.hearBack
		}
		if err := take(ctx, r); err != nil {
			m.log.Error("cannot take over what other hosts did", logVolume, r.Name, logError, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// hearBack takes a volume out of the trash that another host brought back.
func (m *Manager) hearBack(ctx context.Context, r *record) error {
	last, back, err := m.broughtBack(ctx, r)
	if err != nil || !back {
		return err
	}
	unlock, err := m.lock(ctx, r.Name, last.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := m.db.inTrash(r.ID); err != nil || !there {
		return err
	}
	r = m.recordOf(last)
	if err := m.db.adopt(r); !errors.Is(err, ErrExist) {
		return err
	}
	return nil // as in hearOf
}

// broughtBack reports whether a volume in the trash is one that other hosts knew to be removed, and have.
func (m *Manager) broughtBack(ctx context.Context, r *record) (last At, back bool, _ error) {
	if !r.Told {
		return At{}, false, nil
	}
	last, err := m.lastTold(ctx, r)
	return last, last.Head.Defined() && !last.Removed, err
}

// hear is Hear of the volume of a name, which it has here or on other hosts, by what is known.
func (m *Manager) hear(ctx context.Context, name string) error {
	r, err := m.db.get(name)
	if errors.Is(err, ErrNotFound) {
		return m.hearRenamed(ctx, name)
	}
	if err != nil {
		return err
	}
	return m.hearOf(ctx, r)
}

// hearRenamed is hear of a volume that may have another name here.
func (m *Manager) hearRenamed(ctx context.Context, name string) error {
	if m.o.Heads == nil {
		return nil
	}
	at, err := m.findElsewhere(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := m.db.ofID(at.ID)
	if err != nil || r == nil {
		return err
	}
	return m.hearOf(ctx, r)
}

func (m *Manager) hearOf(ctx context.Context, r *record) error {
	name := r.Name
	last, differs, err := m.told(ctx, r)
	if err != nil || !differs {
		return err
	}
	unlock, err := m.lock(ctx, name, last.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if r, err = m.db.get(name); errors.Is(err, ErrNotFound) {
		return nil // somebody else was faster
	}
	if err != nil {
		return err
	}
	if last, differs, err = m.told(ctx, r); err != nil || !differs {
		return err
	}
	if last.Removed {
		m.hearLast(ctx, r, last)
		r.Removed, r.Told = m.o.Now().UTC(), true
		return m.db.trash(r)
	}
	if err := m.db.rename(r, last.Name); !errors.Is(err, ErrExist) {
		return err
	}
	return nil // the volume that has the name here will have another one, or be removed
}

// told returns what is known of a volume from other hosts, and whether that is to be taken over now.
func (m *Manager) told(ctx context.Context, r *record) (last At, differs bool, _ error) {
	if r.Overlay != nil || r.Revived {
		return At{}, false, nil
	}
	last, err := m.lastTold(ctx, r)
	return last, last.Removed || last.Name != "" && last.Name != r.Name && !r.Renamed, err
}

// removedElsewhere reports whether other hosts removed a volume that is here.
func (m *Manager) removedElsewhere(ctx context.Context, r *record) bool {
	if !r.Removed.IsZero() || r.Revived {
		return false
	}
	last, err := m.lastTold(ctx, r)
	return err == nil && last.Removed
}

// beforeEnd moves a volume that another host removed to the state that it was removed at, if that comes after the one
// that is recorded. One that is there again is refused.
func (m *Manager) beforeEnd(ctx context.Context, r *record) error {
	last, back, err := m.broughtBack(ctx, r)
	if back {
		return fmt.Errorf("another host brought it back, as %q: %w", last.Name, ErrExist)
	}
	if err != nil || !last.Removed {
		return err
	}
	if later, err := m.toLatest(ctx, r, last.States); later || err != nil {
		return err
	}
	for a, err := range m.history(ctx, last.Head) {
		switch {
		case err != nil:
			return err
		case a.Sequence <= r.Sequence:
			return nil
		case slices.Contains(last.Ends, a.CID):
			continue
		}
		if known, err := m.descends(ctx, a.CID, r.Head.Cid); err != nil || !known {
			return err
		}
		r.Head, r.Sequence = CID{a.CID}, a.Sequence
		return nil
	}
	return nil
}

// toLatest moves a volume to the latest of some states that come after the one that is recorded: what others went on
// with although it was removed.
func (m *Manager) toLatest(ctx context.Context, r *record, states []cid.Cid) (moved bool, _ error) {
	from := r.Head.Cid
	for _, s := range states {
		if s == from {
			continue
		}
		known, err := m.descends(ctx, s, from)
		if err != nil || !known {
			if ctx.Err() != nil {
				return moved, ctx.Err()
			}
			continue // one that cannot be had is a fork of what is brought back
		}
		t, err := tree.Open(ctx, m.o.Blocks, s)
		if err != nil {
			return moved, err
		}
		if t.Commit.Sequence > r.Sequence {
			r.Head, r.Sequence, moved = CID{s}, t.Commit.Sequence, true
		}
	}
	return moved, nil
}

// revive makes a commit that brings a removed volume back for all hosts: after its last state, and after what ended it.
func (m *Manager) revive(ctx context.Context, r *record) error {
	last, err := m.lastTold(ctx, r)
	if err != nil {
		return err
	}
	was, err := m.commitHere(ctx, r.Head.Cid)
	if foreign := err == nil && r.shared() && was.Volume != r.ID; !foreign && (!last.Removed || len(last.Ends) == 0) {
		return nil
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	c, _, err := over(ctx, s, r.Head.Cid)
	if err != nil {
		return err
	}
	c.Consistency, c.Message = snapshot.Clean, "brought back"
	own, err := m.o.Own.Own(ctx, r.Head.Cid)
	if err != nil {
		return err
	}
	next, err := m.extend(ctx, s, r, c, own, append([]cid.Cid{r.Head.Cid}, last.Ends...)...)
	if err == nil {
		*r = *next
	}
	return err
}
