package volume

import (
	"context"
	"fmt"
)

// nameLock makes operations on one volume wait for each other.
type nameLock struct {
	held  chan struct{} // has one element while somebody holds the lock
	users int           // guarded by Manager.mu
}

// take waits for a lock as long as ctx lasts. Who finds it free has it, also when the time is just over.
func (l *nameLock) take(ctx context.Context) error {
	select {
	case l.held <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lock waits for the volumes of the names, which are given in no order, as long as ctx lasts, and returns the way to
// let go of them. Those that were not brought back yet are brought back.
func (m *Manager) lock(ctx context.Context, names ...string) (unlock func(), err error) {
	unlock, err = m.acquire(ctx, names...)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := m.startOnce(ctx, name); err != nil {
			m.log.Error("cannot be brought back", logVolume, name, logError, err)
		}
	}
	if err := ctx.Err(); err != nil {
		unlock()
		return nil, waiting(names, err)
	}
	return unlock, nil
}

// lockRecord is lock of one volume, and what is recorded of it from now on, also if only other hosts had it.
func (m *Manager) lockRecord(ctx context.Context, name string) (r *record, unlock func(), err error) {
	if err = m.hear(ctx, name); err != nil {
		return nil, nil, err
	}
	if unlock, err = m.lock(ctx, name); err != nil {
		return nil, nil, err
	}
	if r, err = m.found(ctx, name); err != nil {
		unlock()
		return nil, nil, err
	}
	return r, unlock, nil
}

// lockToChange is lockRecord of a volume that this host may change.
func (m *Manager) lockToChange(ctx context.Context, name string) (r *record, unlock func(), err error) {
	if r, unlock, err = m.lockRecord(ctx, name); err != nil {
		return nil, nil, err
	}
	if err := m.mayChange(r); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("change %s: %w", name, err)
	}
	return r, unlock, nil
}

// acquire is lock without bringing anything back.
func (m *Manager) acquire(ctx context.Context, names ...string) (unlock func(), err error) {
	names = sortedUnique(names)
	var held []*nameLock
	unlock = func() {
		for i, l := range held {
			<-l.held
			m.leave(names[i])
		}
	}
	for _, name := range names {
		l := m.enter(name)
		if err := l.take(ctx); err != nil {
			m.leave(name)
			unlock()
			return nil, waiting(names, err)
		}
		held = append(held, l)
	}
	return unlock, nil
}

func waiting(names []string, err error) error {
	return fmt.Errorf("wait for other operations on %q: %w", names, err)
}

// enter returns the lock of a name, which exists until as many have left.
func (m *Manager) enter(name string) *nameLock {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[name]
	if l == nil {
		l = &nameLock{held: make(chan struct{}, 1)}
		m.locks[name] = l
	}
	l.users++
	return l
}

func (m *Manager) leave(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.locks[name]; l.users == 1 {
		delete(m.locks, name)
	} else {
		l.users--
	}
}
