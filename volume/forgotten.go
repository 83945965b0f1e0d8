package volume

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// DefaultForgotten is long enough for an engine to have started what it mounted a volume for, whatever else that waits for.
const DefaultForgotten = 5 * time.Minute

// UseFinder is what a Mounter is beyond that if it can say whether anybody uses a mount.
type UseFinder interface {
	// Used reports whether somebody has something of dir open, or can see it at another place, as a container does. It
	// changes nothing. Where that cannot be said, it is an error.
	Used(ctx context.Context, dir string) (bool, error)
}

// suspicion is that nobody uses a volume any more that containers are said to have.
type suspicion struct {
	due    time.Time // when it is looked, unless an engine is mounting volumes
	latest time.Time // when it is looked at the latest
}

// suspect has it looked in a while whether a volume is used by the containers that are said to have it: an engine tells of
// a container's end once, and does not if nobody listens or it was killed itself. What is mounted or left meanwhile begins
// the time anew.
func (m *Manager) suspect(r *record) {
	if m.o.Forgotten <= 0 || !r.onlyContainers() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.suspects[r.ID] = suspicion{now.Add(m.o.Forgotten), now.Add(6 * m.o.Forgotten)}
}

// doubt is called with a volume that is mounted: somebody else who has it may be gone.
func (m *Manager) doubt(r *record) {
	m.mu.Lock()
	_, is := m.suspects[r.ID]
	m.mu.Unlock()
	if is || len(r.Users) > 1 {
		m.suspect(r)
	}
}

// mountsFor is called when an engine mounts something, and what it returns when that is over. Another process than before
// may be there because that one was killed.
func (m *Manager) mountsFor(engine string) (over func()) {
	m.mu.Lock()
	another := engine != m.engine
	m.engine = engine
	m.mounting++
	m.mu.Unlock()
	if another {
		m.suspectAll()
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.mounting--
		m.mountedAt = time.Now()
	}
}

func (m *Manager) suspectAll() {
	if m.o.Forgotten <= 0 {
		return
	}
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		m.log.Error("cannot look which containers have volumes", logError, err)
	}
	for _, r := range rs {
		m.suspect(r)
	}
}

// onlyContainers reports whether a volume is mounted, and by containers alone.
func (r *record) onlyContainers() bool {
	return len(r.Users) > 0 && !slices.ContainsFunc(r.users(), isNoContainer)
}

// endForgotten ends, until ctx is done, the mounts of containers that nobody uses.
func (m *Manager) endForgotten(ctx context.Context) {
	finder, can := m.o.Mounter.(UseFinder)
	if m.o.Forgotten <= 0 || m.o.Visible == nil || !can {
		return
	}
	m.suspectAll()
	tick := time.NewTicker(max(m.o.Forgotten/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, id := range m.dueSuspects() {
			err := m.withReserve(func() error { return m.endIfForgotten(ctx, finder, id) })
			m.cleared(id, err == nil)
			if err != nil && !errors.Is(err, errMounting) && ctx.Err() == nil {
				m.log.Warn("cannot end what containers had that may be gone", "id", id, logError, err)
			}
		}
	}
}

func (m *Manager) dueSuspects() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.suspects {
		if m.isDue(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// isDue is called with the lock. An engine mounts one volume of a container after another, each of which may take long,
// before it begins the container.
func (m *Manager) isDue(id string) bool {
	s, is := m.suspects[id]
	now := time.Now()
	busy := m.mounting > 0 || now.Sub(m.mountedAt) < m.o.Forgotten/5
	return is && now.After(s.due) && (!busy || now.After(s.latest))
}

// cleared ends a suspicion that was looked into, unless there is a new one; if that could not be done, it is in a while.
func (m *Manager) cleared(id string, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, is := m.suspects[id]; !is || !time.Now().After(s.due) {
		return
	}
	if delete(m.suspects, id); !done {
		again := time.Now().Add(m.o.Forgotten)
		m.suspects[id] = suspicion{again, again}
	}
}

// errMounting says that a volume is not looked at now.
var errMounting = errors.New("an engine is mounting volumes")

// endIfForgotten looks at one suspect. Who mounts the volume waits until that is done, and begins the time anew.
func (m *Manager) endIfForgotten(ctx context.Context, finder UseFinder, id string) error {
	r, err := m.db.ofID(id)
	if err != nil || r == nil {
		return err
	}
	unlock, err := m.lock(ctx, r.Name)
	if err != nil {
		return err
	}
	defer unlock()
	m.mu.Lock()
	due := m.isDue(id)
	m.mu.Unlock()
	if !due {
		return errMounting
	}
	if r, err = m.db.get(r.Name); errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || r.ID != id || r.Overlay == nil || !r.onlyContainers() {
		return err // it is another one now, or mounted otherwise
	}
	if seen, err := m.seesUsers(r); !seen || err != nil {
		return err
	}
	dir := m.overlayDir(r.Overlay.ID)
	if used, err := finder.Used(ctx, dir); used || err != nil {
		return err
	}
	m.log.Info("the containers that had a volume are gone, and their engine did not say so", logVolume, r.Name, "users", strings.Join(r.users(), ", "))
	defer m.releaseLease(r)
	m.endLease(r, true)
	if _, err = m.unmount(ctx, r, r.users()); err != nil {
		m.endLease(r, len(r.Users) == 0)
	}
	if errors.Is(err, ErrInUse) {
		m.log.Warn("somebody has a volume whose containers seemed to be gone", logVolume, r.Name, logError, err)
		return nil
	}
	if err != nil && len(r.Users) == 0 {
		m.unmountLater(r, err)
	}
	return err
}

// seesUsers reports whether what all users of a volume run could be seen.
func (m *Manager) seesUsers(r *record) (seen bool, err error) {
	seen = true
	for user, since := range r.Users {
		t, err := m.db.times(r.ID, user, since)
		if err != nil {
			return false, err
		}
		seen = seen && m.o.Visible(t.by)
	}
	return seen, nil
}
