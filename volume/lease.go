package volume

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrLeased says that another host has a volume mounted for writing.
var ErrLeased = errors.New("volume is mounted for writing on another host")

// Leases keeps two hosts that hear of each other from writing to one volume by mistake. Nothing else depends on it: where
// both write, both states are kept. Volumes go by the IDs that all hosts know them by. All methods are safe for
// concurrent use.
//
// Acquire takes the lease of a volume for this host; one that it has is no error. The error wraps [ErrLeased] and says
// who has it, and until when, if another host does; with steal it is taken away from that one. Keep takes the lease of a
// volume that is mounted since before this process, whoever has it, and waits for nobody. End tells that nothing more is
// written, and what was is being committed, or that this is not so; who has not got the lease tells nothing. Release gives
// it up. Holder says who has it; nil if nobody does.
type Leases interface {
	Acquire(ctx context.Context, id string, steal bool) error
	Keep(id string)
	End(id string, ending bool)
	Release(id string)
	Holder(id string) *Lease
}

// Lease says which host writes to a volume.
type Lease struct {
	Peer   string    `json:"peer"`
	Host   string    `json:"host,omitempty"`   // its machine's name, as it says
	Until  time.Time `json:"until,omitzero"`   // if it is not heard of again; not of this host's own
	Here   bool      `json:"here,omitempty"`   // it is this host
	Ending bool      `json:"ending,omitempty"` // it writes no more, and commits what it wrote

	Both bool `json:"both,omitempty"` // this host writes to it as well: what is committed here is a fork
}

// name is what people know the host by.
func (l *Lease) name() string {
	if l.Host == "" {
		return l.Peer
	}
	return fmt.Sprintf("%s (%s)", l.Host, l.Peer)
}

func (m *Manager) leased(r *record) bool { return m.o.Leases != nil && r.shared() }

func (m *Manager) lease(r *record) *Lease {
	if !m.leased(r) {
		return nil
	}
	l := m.o.Leases.Holder(r.ID)
	if l != nil && !l.Here {
		l.Both = len(r.Users) > 0 && r.Overlay != nil && !r.Overlay.ReadOnly
	}
	return l
}

// acquireLease is called before a volume is mounted, with what it is mounted for. Who mounts what is mounted already asks
// nobody, unless the lease is to be taken back.
func (m *Manager) acquireLease(ctx context.Context, r *record, readOnly, steal bool) error {
	if o, err := r.options(); err != nil || readOnly || o.ReadOnly {
		return err
	}
	if !m.leased(r) || len(r.Users) > 0 && (!steal || r.Overlay.ReadOnly) {
		return nil
	}
	err := m.acquireEnding(ctx, r.ID, steal)
	if errors.Is(err, ErrLeased) {
		return fmt.Errorf("%w\nmount it with --read-only, or take it over with --steal: what is not committed there becomes a fork", err)
	}
	return err
}

// refuseLeased refuses what would be a fork of what another host writes.
func (m *Manager) refuseLeased(r *record) error {
	if l := m.lease(r); l != nil && !l.Here {
		return fmt.Errorf("%w: %s\nunmount it there first", ErrLeased, l.name())
	}
	return nil
}

const (
	// endingWait is how long a mount waits for a host that is only committing what it wrote, and endingAgain lies between
	// two times that it looks.
	endingWait  = 100 * time.Second
	endingAgain = 100 * time.Millisecond
)

// acquireEnding takes a lease, and waits for one that another host is about to give up.
func (m *Manager) acquireEnding(ctx context.Context, id string, steal bool) error {
	limited, cancel := context.WithTimeout(ctx, endingWait)
	defer cancel()
	for {
		err := m.o.Leases.Acquire(ctx, id, steal)
		if !errors.Is(err, ErrLeased) {
			return err
		}
		if l := m.o.Leases.Holder(id); l != nil && !l.Ending {
			return err
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("%w\nit is not mounted there any more, and what was written is still being committed or replicated", err)
		case <-time.After(endingAgain):
		}
	}
}

// endLease tells other hosts whether a volume is being unmounted, and what was written still to be committed.
func (m *Manager) endLease(r *record, ending bool) {
	if m.leased(r) {
		m.o.Leases.End(r.ID, ending)
	}
}

// releaseLease gives the lease up of a volume that nobody has mounted, unless what was written is to be committed when
// its unmount is tried again, or to be replicated: who mounts it elsewhere then finds all of it, whatever becomes of this
// host.
func (m *Manager) releaseLease(r *record) {
	switch {
	case !m.leased(r) || len(r.Users) > 0:
	case m.awaits(r), m.isUncommitted(r), r.Overlay != nil && m.isTriedLater(r.Name):
		m.o.Leases.End(r.ID, true)
	default:
		m.o.Leases.Release(r.ID)
	}
}

// isUncommitted reports whether what was written to a volume that nobody has mounted is still to be committed.
func (m *Manager) isUncommitted(r *record) bool {
	if r.Overlay == nil || r.Overlay.ReadOnly || r.unused() {
		return false
	}
	o, err := r.options()
	return err != nil || o.Commit != CommitManually
}

// keepEnding has the lease of a volume that nobody has mounted, and of which not all is committed and replicated.
func (m *Manager) keepEnding(r *record) {
	if m.leased(r) && len(r.Users) == 0 && (m.awaits(r) || m.isUncommitted(r)) {
		m.o.Leases.Keep(r.ID)
		m.o.Leases.End(r.ID, true)
	}
}

// keepAwaited has the lease of a volume that nobody has mounted, and of which a commit was made that is to be replicated.
func (m *Manager) keepAwaited(r *record) {
	if m.awaits(r) {
		m.keepEnding(r)
	}
}

// keepLease has the lease of a volume that a process before this one mounted for writing.
func (m *Manager) keepLease(r *record) {
	if m.leased(r) && len(r.Users) > 0 && r.Overlay != nil && !r.Overlay.ReadOnly {
		m.o.Leases.Keep(r.ID)
	}
}
