package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/volary/volary/snapshot"
)

// DefaultAgain is how often what could not be brought back is tried again, and startWait how long at a time a mount is
// waited for. startFew volumes are tried at a time.
const (
	DefaultAgain = 10 * time.Second
	startWait    = 20 * time.Second
	startFew     = 4
)

// Keys of log records.
const (
	logVolume = "volume"
	logError  = "error"
	logDir    = "dir"
	logSize   = "size"
	logUsed   = "used"
	logFile   = "file"
)

// Start brings back what was mounted when the process before this one ended: mounts that outlived it are taken
// over, those that a reboot took away are made again. Changes that were not committed are still in their
// overlays; those that no volume knows of become snapshots of their own. A volume that cannot be mounted is told in the
// error, and hinders no other. An operation on a volume that is not back yet waits for it, or brings it back itself.
func (m *Manager) Start(ctx context.Context) error {
	if err := m.reserve.restore(); err != nil {
		m.log.Warn("there is no reserve for a full disk", logError, err)
	}
	m.emptyTrash(ctx)
	removed, err := m.db.list(bucketTrash)
	errs := []error{err}
	for _, r := range removed {
		m.tell(ctx, r)
	}
	rs, err := m.db.list(bucketVolumes)
	errs = append(errs, err)
	// Who uses a volume waits; a commit of what nobody uses any more may take long.
	slices.SortStableFunc(rs, func(a, b *record) int { return cmp.Compare(min(len(b.Users), 1), min(len(a.Users), 1)) })
	for _, r := range rs {
		unlock, err := m.acquire(ctx, r.Name)
		if err == nil {
			err = m.startOnce(ctx, r.Name)
			unlock()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", r.Name, err))
		}
	}
	errs = append(errs, m.recoverUnknown(ctx))
	return errors.Join(errs...)
}

// expectStart has every volume there is brought back before anything else is done to it, and its lease before any other
// host hears of this one's.
func (m *Manager) expectStart() error {
	rs, err := m.db.list(bucketVolumes)
	for _, r := range rs {
		m.unstarted[r.Name] = true
		m.keepLease(r)
		m.keepEnding(r)
	}
	return err
}

// startOnce brings a volume back that was not yet. It is called with the volume's lock. What fails is tried again by
// Run, and by whoever mounts the volume.
func (m *Manager) startOnce(ctx context.Context, name string) error {
	m.mu.Lock()
	waits := m.unstarted[name]
	m.mu.Unlock()
	if !waits {
		return nil
	}
	return m.bringBack(ctx, name)
}

// startAgain brings back, now and then, what could not be brought back: where blocks come from may be reachable again.
func (m *Manager) startAgain(ctx context.Context) {
	tick := time.NewTicker(m.o.Again)
	defer tick.Stop()
	tries := newLatest(startFew)
	defer tries.work.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		names := slices.Sorted(maps.Keys(m.again))
		m.mu.Unlock()
		for _, name := range names {
			tries.do(name, func() {
				if err := m.tryAgain(ctx, name); err != nil && ctx.Err() == nil {
					m.log.Debug("still cannot be brought back", logVolume, name, logError, err)
				}
			})
		}
	}
}

// tryAgain brings a volume back unless that was done. To commit what was written may take as long as it takes.
func (m *Manager) tryAgain(ctx context.Context, name string) error {
	limited, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	unlock, err := m.acquire(limited, name)
	if err != nil {
		return err
	}
	defer unlock()
	if !m.isTriedLater(name) {
		return nil
	}
	r, err := m.db.get(name)
	if err != nil || len(r.Users) > 0 {
		ctx = limited
	}
	gone := errors.Is(err, ErrNotFound)
	if err := m.bringBack(ctx, name); err != nil || gone {
		return err
	}
	m.log.Info("brought back", logVolume, name)
	return nil
}

// tryLater has what could not be done to a volume done by startAgain.
func (m *Manager) tryLater(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again[name] = true
}

func (m *Manager) isTriedLater(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.again[name]
}

// bringBack is called with the volume's lock.
func (m *Manager) bringBack(ctx context.Context, name string) error {
	m.mu.Lock()
	again := m.again[name]
	delete(m.again, name) // somebody may leave, and ask for it again, once the record was read
	m.mu.Unlock()
	var r *record
	err := m.withReserve(func() (err error) {
		r, err = m.start(ctx, name)
		return err
	})
	if ctx.Err() != nil {
		if again {
			m.tryLater(name)
		}
		return err
	}
	m.mu.Lock()
	delete(m.unstarted, name)
	if err != nil && r != nil {
		m.again[name] = true
	}
	m.mu.Unlock()
	if err == nil && r != nil && len(r.Users) > 0 && m.o.Started != nil {
		var i *Info
		if i, err = m.info(ctx, r, false); err == nil {
			m.o.Started(i)
		}
	}
	switch {
	case r == nil:
	case err != nil && len(r.Users) == 0 && r.Overlay != nil:
		m.failed(r, FailedUnmount, err)
	case err != nil:
		m.failed(r, FailedStart, err)
	default:
		m.wentWell(r, FailedStart)
		m.wentWell(r, FailedUnmount)
		m.releaseLease(r)
	}
	return err
}

func (m *Manager) start(ctx context.Context, name string) (*record, error) {
	r, err := m.db.get(name)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // it was removed, or has another name
	}
	if err == nil && r.Overlay != nil && m.o.Mounter != nil {
		err = m.endContainers(r) // whatever fails after it: they must not be taken for those of this boot
	}
	if err == nil {
		m.tell(ctx, r)
		err = m.keepPinned(ctx, r)
	}
	if err == nil {
		m.keepEnding(r)
	}
	if err != nil || r.Overlay == nil || m.o.Mounter == nil {
		return r, err
	}
	if len(r.Users) == 0 {
		_, err := m.finishUnmount(ctx, r)
		return r, err
	}
	if r.Overlay.Tmpfs && r.Overlay.Boot != m.o.Boot {
		// What was in memory is gone; what is mounted next begins at the head, not at what was below it.
		if err := m.renewOverlay(r); err != nil {
			return r, err
		}
	}
	err = m.mountOverlay(ctx, r)
	if refuser, ok := m.o.Mounter.(Refuser); ok && errors.Is(err, snapshot.ErrNotFound) {
		err = errors.Join(err, refuser.Refuse(ctx, m.overlayDir(r.Overlay.ID)))
	}
	return r, err
}

// endContainers forgets the containers that had a volume mounted before the machine was booted.
func (m *Manager) endContainers(r *record) error {
	if r.ContainersBoot == m.o.Boot {
		return nil
	}
	for user := range r.Users {
		if !isContainer(user) {
			continue
		}
		if err := m.endUser(r, user); err != nil {
			return err
		}
	}
	return nil
}

// keepPinned pins the head anew if somebody else unpinned it.
func (m *Manager) keepPinned(ctx context.Context, r *record) error {
	status, err := m.o.Pins.Status(ctx, r.Head.Cid)
	if _, pinned := status.Of(pinOwner(r)); pinned || err != nil {
		return err
	}
	// A pin of what is gone would keep every collection from removing anything.
	if has, err := m.o.Blocks.Has(ctx, r.Head.Cid); err != nil || !has[0] {
		m.log.Error("the head is gone", logVolume, r.Name)
		return err
	}
	if r.follows() {
		return nil // what is shown is kept as such
	}
	if r.shared() && m.o.Heads != nil && m.o.Mounter != nil {
		// Another host may have made it, and not all of it may be here.
		m.adopted(r)
		return nil
	}
	m.log.Warn("the head was not pinned any more", logVolume, r.Name)
	return m.o.Pins.Add(ctx, pinOf(r, m.o.Now()))
}
