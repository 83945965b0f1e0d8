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
// volume that is mounted since before this process, whoever has it, and waits for nobody. Release gives it up. Holder
// says who has it; nil if nobody does.
type Leases interface {
	Acquire(ctx context.Context, id string, steal bool) error
	Keep(id string)
	Release(id string)
	Holder(id string) *Lease
}

// Lease says which host writes to a volume.
type Lease struct {
	Peer  string    `json:"peer"`
	Host  string    `json:"host,omitempty"` // its machine's name, as it says
	Until time.Time `json:"until,omitzero"` // if it is not heard of again; not of this host's own
	Here  bool      `json:"here,omitempty"` // it is this host
	Both  bool      `json:"both,omitempty"` // this host writes to it as well: what is committed here is a fork
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
	if o, err := ParseOptions(r.Options); err != nil || readOnly || o.ReadOnly {
		return err
	}
	if !m.leased(r) || len(r.Users) > 0 && (!steal || r.Overlay.ReadOnly) {
		return nil
	}
	err := m.o.Leases.Acquire(ctx, r.ID, steal)
	if errors.Is(err, ErrLeased) {
		return fmt.Errorf("%w\nmount it with --read-only, or take it over with --steal: what is not committed there becomes a fork", err)
	}
	return err
}

// releaseLease gives the lease up of a volume that nobody has mounted.
func (m *Manager) releaseLease(r *record) {
	if m.leased(r) && len(r.Users) == 0 {
		m.o.Leases.Release(r.ID)
	}
}

// keepLease has the lease of a volume that a process before this one mounted for writing.
func (m *Manager) keepLease(r *record) {
	if m.leased(r) && len(r.Users) > 0 && r.Overlay != nil && !r.Overlay.ReadOnly {
		m.o.Leases.Keep(r.ID)
	}
}
