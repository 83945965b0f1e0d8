package volume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Heads names volumes on all hosts of a namespace, keeps where each of them is, and tells the other hosts. What a
// method returned from is durable. All methods are safe for concurrent use.
//
// Begin returns the ID that a new volume of a name has on every host; its commits say that they are its. With a key that
// is that of the key's volume, and the error wraps ErrExist if that is known. Tell says
// where a volume of such an ID is on this host: others hear of it sooner or later. Telling the same again is no change,
// and what does not come after what others told does not undo it. Last returns where a volume is, by the newest that is
// known, whoever told it: for one that is removed the commit that ended it, or one that was made besides; a zero At if
// nothing is known. Find returns the volume of a name, and All every one that is not removed, whichever host it is on;
// the error of Find wraps ErrNotFound if there is none.
// Writable returns an error that wraps fs.ErrPermission if this host may not change volumes that other hosts know.
type Heads interface {
	Writable() error
	Begin(ctx context.Context, name string, key *Key) (id string, err error)
	Tell(ctx context.Context, t Told) error
	Last(ctx context.Context, id string) (At, error)
	Find(ctx context.Context, name string) (At, error)
	All(ctx context.Context) ([]At, error)
	Watch(ctx context.Context, current bool) iter.Seq2[News, error]
}

// At is where a volume is.
type At struct {
	ID, Name string
	Head     cid.Cid
	Sequence uint64
	Removed  bool
	Fork     bool // the head was made on a branch that lost, and no other one is known
	// States are those that no other known one comes after, if there are several, the newest first; for a commit that
	// ended the volume what it ended. Ends are those commits. Last and All tell them, Ends of one that is removed or has
	// several states.
	States, Ends []cid.Cid
}

// Told is what a host tells of a volume. Its name, and whether it is removed, count only if this host says that it
// changed them: it may not have heard of what others did.
type Told struct {
	At
	Renamed bool      // by this host
	Revived bool      // by this host, after it was removed
	Ended   time.Time // when this host removed it
	Key     *Key      // that the volume was given; nil: one of its own
}

// Key is the key of a volume that was made with it, which only who may change volumes of the namespace can open.
type Key struct {
	Volume string `json:"volume"` // ID
	Sealed []byte `json:"sealed"`
}

// shared reports whether the volume has an ID that other hosts know.
func (r *record) shared() bool { return len(r.ID) > localIDLength }

// Published are the IDs of those volumes that are to be published for any IPFS program. It reads what is recorded here
// alone, so that it can be asked for again and again.
func (m *Manager) Published() (ids []string, _ error) {
	rs, err := m.db.list(bucketVolumes)
	for _, r := range rs {
		if o, err := r.options(); err == nil && o.Publish && r.shared() {
			ids = append(ids, r.ID)
		}
	}
	return ids, err
}

// lastTold is where a volume is, by the newest that hosts have told; a zero At of one that only this host knows.
func (m *Manager) lastTold(ctx context.Context, r *record) (At, error) {
	if m.o.Heads == nil || !r.shared() {
		return At{}, nil
	}
	if r.last != nil {
		return *r.last, nil
	}
	return m.o.Heads.Last(ctx, r.ID)
}

// tell makes known where a volume is. What goes wrong hinders nobody here, and is tried again at the next start.
func (m *Manager) tell(ctx context.Context, r *record) {
	if m.o.Heads == nil || !r.shared() || r.Told {
		return
	}
	t := Told{Renamed: r.Renamed, Revived: r.Revived, Ended: r.Removed, Key: r.Key, At: At{
		ID: r.ID, Name: r.Name, Head: r.Head.Cid, Sequence: r.Sequence, Removed: !r.Removed.IsZero(),
	}}
	err := m.o.Heads.Tell(context.WithoutCancel(ctx), t)
	if err == nil {
		err = m.db.told(r)
	}
	if err != nil {
		m.log.Error("other hosts are not told where the volume is", logVolume, r.Name, logError, err)
	}
}

// mayChange refuses what other hosts would not take from this one.
func (m *Manager) mayChange(r *record) error {
	if m.o.Heads == nil || !r.shared() {
		return nil
	}
	return m.o.Heads.Writable()
}

// refresh has Heads hear what other hosts told lately. What is known has to do, if nothing newer can be had.
func (m *Manager) refresh(ctx context.Context) error {
	if m.o.Refresh == nil {
		return nil
	}
	err := m.o.Refresh(ctx)
	if err != nil {
		m.log.Debug("cannot hear of other hosts' volumes", logError, err)
	}
	return err
}

// begin returns the ID of a new volume. A name that a volume of another host has is taken.
func (m *Manager) begin(ctx context.Context, name string, key *Key) (string, error) {
	if m.o.Heads == nil && key != nil {
		return "", fmt.Errorf("volumes of this host alone have no keys: %w", ErrInvalid)
	}
	if m.o.Heads == nil {
		return newID(), nil
	}
	if err := m.checkKey(key); err != nil {
		return "", err
	}
	if _, err := m.findElsewhere(ctx, name); err == nil {
		return "", fmt.Errorf("%q is a volume of another host, which can be mounted here: %w", name, ErrTaken)
	} else if !errors.Is(err, ErrNotFound) {
		return "", err
	}
	return m.o.Heads.Begin(ctx, name, key)
}

// checkKey refuses the key of a volume that is recorded here already.
func (m *Manager) checkKey(key *Key) error {
	if key == nil {
		return nil
	}
	r, err := m.db.ofID(key.Volume)
	if err != nil {
		return err
	}
	if r != nil {
		return fmt.Errorf("the key is that of volume %q: %w", r.Name, ErrExist)
	}
	removed, err := m.db.inTrash(key.Volume)
	if removed {
		err = fmt.Errorf("the key is that of a volume that was removed: %w\n`volary volume ls --trash` lists it, `volary volume undelete` brings it back", ErrExist)
	}
	return err
}

// ID is what a volume of a name is called on all hosts, its IPNS name. The error wraps ErrNotFound if there is none.
func (m *Manager) ID(ctx context.Context, name string) (string, error) {
	r, _, err := m.look(ctx, name)
	if err != nil {
		return "", err
	}
	if !r.shared() {
		return "", fmt.Errorf("volume %q has no IPNS name, an earlier version made it: %w\nclone it: `volary volume clone %s NEW`", name, ErrInvalid, name)
	}
	return r.ID, nil
}

// findElsewhere is Heads.Find, also of what other hosts told lately.
func (m *Manager) findElsewhere(ctx context.Context, name string) (At, error) {
	at, err := m.o.Heads.Find(ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return at, err
	}
	refreshErr := m.refresh(ctx)
	if at, err = m.o.Heads.Find(ctx, name); errors.Is(err, ErrNotFound) && refreshErr != nil {
		err = fmt.Errorf("%w\nwhat other hosts have is not known: %v", err, refreshErr)
	}
	return at, err
}

// look returns what is recorded of a volume, or what is known of it from other hosts, which is elsewhere then.
func (m *Manager) look(ctx context.Context, name string) (r *record, elsewhere bool, err error) {
	r, elsewhere, err = m.lookUp(ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return r, elsewhere, err
	}
	removed, listErr := m.db.list(bucketTrash)
	if listErr != nil {
		return nil, false, listErr
	}
	if slices.ContainsFunc(removed, func(r *record) bool { return r.Name == name }) {
		err = fmt.Errorf("%w\n`volary volume undelete %s` brings back the one that was removed", err, name)
	}
	return nil, false, err
}

func (m *Manager) lookUp(ctx context.Context, name string) (r *record, elsewhere bool, err error) {
	r, err = m.db.get(name)
	if !errors.Is(err, ErrNotFound) || m.o.Heads == nil {
		return r, false, err
	}
	at, findErr := m.findElsewhere(ctx, name)
	if findErr != nil {
		return nil, false, findErr
	}
	here, err := m.db.ofID(at.ID)
	if err != nil {
		return nil, false, err
	}
	if here != nil {
		return nil, false, fmt.Errorf("%q is what another host called %q, which keeps that name here until its changes are committed: %w", name, here.Name, ErrMounted)
	}
	return m.recordOf(at), true, nil
}

func (m *Manager) recordOf(at At) *record {
	return &record{Name: at.Name, ID: at.ID, Created: m.o.Now().UTC(), Head: CID{at.Head}, Sequence: at.Sequence}
}

// found is look, and begins to record what other hosts have. It is called with the volume's lock.
func (m *Manager) found(ctx context.Context, name string) (*record, error) {
	r, elsewhere, err := m.look(ctx, name)
	if err != nil {
		return nil, err
	}
	heard := m.hearOptionsHere(ctx, r)
	switch {
	case elsewhere:
		if err = m.db.adopt(r); err == nil {
			m.adopted(r)
		}
	case heard:
		err = m.db.put(r)
	}
	return r, err
}

// newest is a volume without changes of its own at the newest state that hosts have told, unless it is removed. The state
// that is recorded is before it, or a fork of it that others are told.
func (m *Manager) newest(ctx context.Context, r *record) (*record, error) {
	last, err := m.lastTold(ctx, r)
	if err != nil {
		return r, err
	}
	return m.newestOf(ctx, r, last)
}

// newestOf is newest, by what was told last.
func (m *Manager) newestOf(ctx context.Context, r *record, last At) (*record, error) {
	if r.Overlay != nil || last.Removed || !last.Head.Defined() || last.Head == r.Head.Cid || slices.Contains(last.Ends, last.Head) {
		return r, nil
	}
	fork := m.isInFork(ctx, r, last) // all hosts take the same one for the newest
	if last.Sequence <= r.Sequence && !fork {
		return r, nil
	}
	if known, err := m.descends(ctx, last.Head, r.Head.Cid); err != nil || !known && !fork {
		return r, err
	}
	next := *r
	next.Head, next.Sequence = CID{last.Head}, last.Sequence
	return &next, nil
}

// isInFork reports whether what is recorded is a state that others know besides the head, or before such a one.
func (m *Manager) isInFork(ctx context.Context, r *record, last At) bool {
	for _, s := range last.States {
		if s == r.Head.Cid {
			return true
		}
		c, err := m.commitHere(ctx, s)
		if err != nil {
			continue
		}
		if is, err := snapshot.ComesAfter(ctx, Here{m.o.Blocks}, c, r.Head.Cid, r.Sequence); is && err == nil {
			return true
		}
	}
	return false
}

// newestHere is newest as far as that is here: nothing is waited for.
func (m *Manager) newestHere(ctx context.Context, r *record) *record {
	if r.follows() {
		bare := *r
		bare.Overlay = nil
		next := *m.newestHere(ctx, &bare)
		next.Overlay = r.Overlay
		return &next
	}
	last, err := m.lastTold(ctx, r)
	if err != nil || !last.Head.Defined() {
		return r
	}
	if has, err := m.o.Blocks.Has(ctx, last.Head); err != nil || !has[0] {
		return r
	}
	if next, err := m.newestOf(ctx, r, last); err == nil {
		return next
	}
	return r
}

// catchUp records a volume at its newest state.
func (m *Manager) catchUp(ctx context.Context, r *record) error {
	next, err := m.newest(ctx, r)
	if err != nil || next == r {
		return err
	}
	if err := m.db.put(next); err != nil {
		return err
	}
	*r = *next
	m.adopted(r)
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
