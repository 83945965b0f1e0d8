package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
)

// Heads names volumes on all hosts of a namespace, keeps where each of them is, and tells the other hosts. What a
// method returned from is durable. All methods are safe for concurrent use.
//
// Begin returns the ID that a new volume of a name has on every host; its commits say that they are its. Tell says
// where a volume of such an ID is on this host: others hear of it sooner or later. Telling the same again is no change.
// Last returns the newest state that is known of a volume, whoever told it, which for one that is removed is what ended
// it, or Undef. Find returns the volume of a name, and All every one that is not removed, whichever host it is on; the
// error of Find wraps ErrNotFound if there is none.
type Heads interface {
	Begin(ctx context.Context, name string) (id string, err error)
	Tell(ctx context.Context, at At) error
	Last(ctx context.Context, id string) (cid.Cid, error)
	Find(ctx context.Context, name string) (At, error)
	All(ctx context.Context) ([]At, error)
}

// At is where a volume is.
type At struct {
	ID, Name string
	Head     cid.Cid
	Sequence uint64
	Removed  time.Time // when it was removed; zero if it was not
}

// shared reports whether the volume has an ID that other hosts know.
func (r *record) shared() bool { return len(r.ID) > localIDLength }

// tell makes known where a volume is. What goes wrong hinders nobody here, and is tried again at the next start.
func (m *Manager) tell(ctx context.Context, r *record) {
	if m.o.Heads == nil || !r.shared() {
		return
	}
	at := At{ID: r.ID, Name: r.Name, Head: r.Head.Cid, Sequence: r.Sequence, Removed: r.Removed}
	if err := m.o.Heads.Tell(context.WithoutCancel(ctx), at); err != nil {
		m.log.Error("other hosts are not told where the volume is", logVolume, r.Name, logError, err)
	}
}

// begin returns the ID of a new volume. A name that a volume of another host has is taken.
func (m *Manager) begin(ctx context.Context, name string) (string, error) {
	if m.o.Heads == nil {
		return newID(), nil
	}
	if _, err := m.o.Heads.Find(ctx, name); err == nil {
		return "", fmt.Errorf("%q is a volume of another host, which can be mounted here: %w", name, ErrTaken)
	} else if !errors.Is(err, ErrNotFound) {
		return "", err
	}
	return m.o.Heads.Begin(ctx, name)
}

// look returns what is recorded of a volume, or what is known of it from other hosts, which is elsewhere then.
func (m *Manager) look(ctx context.Context, name string) (r *record, elsewhere bool, err error) {
	r, err = m.db.get(name)
	if !errors.Is(err, ErrNotFound) || m.o.Heads == nil {
		return r, false, err
	}
	at, findErr := m.o.Heads.Find(ctx, name)
	if errors.Is(findErr, ErrNotFound) {
		return nil, false, err
	}
	if findErr != nil {
		return nil, false, findErr
	}
	return m.recordOf(at), true, nil
}

func (m *Manager) recordOf(at At) *record {
	return &record{Name: at.Name, ID: at.ID, Created: m.o.Now().UTC(), Head: CID{at.Head}, Sequence: at.Sequence}
}

// found is look, and begins to record what other hosts have. It is called with the volume's lock.
func (m *Manager) found(ctx context.Context, name string) (*record, error) {
	r, elsewhere, err := m.look(ctx, name)
	if err == nil && elsewhere {
		err = m.db.add(r)
	}
	return r, err
}

// catchUp moves a volume without changes of its own to the newest state that other hosts have told.
func (m *Manager) catchUp(ctx context.Context, r *record) error {
	if m.o.Heads == nil || !r.shared() || r.Overlay != nil {
		return nil
	}
	last, err := m.o.Heads.Last(ctx, r.ID)
	if err != nil || !last.Defined() || last == r.Head.Cid {
		return err
	}
	t, err := tree.Open(ctx, m.o.Blocks, last)
	if err != nil {
		return err
	}
	if t.Commit == nil || t.Commit.Sequence <= r.Sequence {
		return nil
	}
	if known, err := m.descends(ctx, last, r.Head.Cid); err != nil || !known {
		return err
	}
	next := *r
	next.Head, next.Sequence = CID{last}, t.Commit.Sequence
	if err := m.db.put(&next); err != nil {
		return err
	}
	*r = next
	return nil
}

// descends reports whether a commit comes after another one.
func (m *Manager) descends(ctx context.Context, c, from cid.Cid) (bool, error) {
	for a, err := range m.history(ctx, c) {
		if err != nil {
			return false, err
		}
		if a.CID == from {
			return true, nil
		}
	}
	return false, nil
}

// revive makes a commit that brings a removed volume back for all hosts: after its last state, and after what ended it.
func (m *Manager) revive(ctx context.Context, r *record) error {
	if m.o.Heads == nil || !r.shared() {
		return nil
	}
	last, err := m.o.Heads.Last(ctx, r.ID)
	if err != nil || !last.Defined() || last == r.Head.Cid {
		return err
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
	next, err := m.extend(ctx, s, r, c, own, r.Head.Cid, last)
	if err == nil {
		*r = *next
	}
	return err
}
