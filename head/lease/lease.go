// Package lease has the hosts of a namespace tell each other which volumes each of them writes to, so that a second one
// does not begin to by mistake.
//
// Start with [New] and [Leases.Join]. [Leases.Acquire] asks the connected hosts before a volume is mounted for writing;
// [Leases.Holder] says who writes to it.
//
// It guarantees: who may not write in the namespace holds no lease; a host that does not say so any more holds one for
// no longer than the duration that it has told, by the clock of whoever heard it; what is heard is bounded in size and
// number, whoever says it. It does not guarantee that one host writes: two that are not connected do not hear of each
// other. Nothing may depend on that.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/namespace"
)

const (
	// DefaultDuration is how long a host that is not heard of any more holds its leases.
	DefaultDuration = 30 * time.Second
	// MinDuration and MaxDuration bound what a host may say.
	MinDuration = time.Second
	MaxDuration = 10 * time.Minute
	// MaxVolumes is how many leases a host holds at most. Of more that it writes to the others do not hear.
	MaxVolumes = 4096

	// mostPeers and mostLeases bound what is remembered of all other hosts together.
	mostPeers  = 1024
	mostLeases = 64 << 10
)

// Options of Leases. Self and Namespace are required.
type Options struct {
	Self      peer.ID
	Namespace *namespace.Namespace
	Host      string           // the machine's name, for people; at most MaxHost printable ASCII characters count
	Duration  time.Duration    // DefaultDuration if zero
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil discards

	ticks <-chan time.Time // when all are told again; nil: thrice in a Duration
	heard func(from peer.ID)
}

// Holder is a host that writes to a volume.
type Holder struct {
	Peer  peer.ID
	Host  string    // its machine's name, as it says
	Until time.Time // by the clock of this host, unless it is heard of again; zero if it is this one
	Here  bool      // it is this one

	Ending bool // it writes no more, and gives the lease up once that is committed
}

// HeldError says that another host writes to a volume.
type HeldError struct{ Holder Holder }

func (e *HeldError) Error() string {
	return fmt.Sprintf("host %s (%s) has the lease until %s, unless it is heard of again", e.Holder.Host, e.Holder.Peer, e.Holder.Until.Format(time.TimeOnly))
}

// Leases are those of this host, and what it knows of others'. They must be made by New, and are safe for concurrent use.
type Leases struct {
	o       Options
	log     *slog.Logger
	table   *table
	changed chan struct{} // has an element when the others are to be told

	mu      sync.Mutex
	speaker *speaker // nil while this host is not in the network
}

// New makes the leases of a host that has none, and knows of nobody's.
func New(o Options) (*Leases, error) {
	if o.Self == "" || o.Namespace == nil {
		return nil, errors.New("leases want a host and a namespace")
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Duration < MinDuration || o.Duration > MaxDuration {
		return nil, fmt.Errorf("a lease lasts from %s to %s, not %s", MinDuration, MaxDuration, o.Duration)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Host = plainHost(o.Host)
	t := &table{self: o.Self, host: o.Host, duration: o.Duration, now: o.Now, own: map[ipns.Name]claim{}, others: map[peer.ID]*told{}}
	return &Leases{o: o, log: o.Log, table: t, changed: make(chan struct{}, 1)}, nil
}

// Acquire takes the lease of a volume, after asking the hosts that this one is connected to, for at most a few seconds.
// The error is a [*HeldError] if another host has it; with steal it is taken away from that one.
func (l *Leases) Acquire(ctx context.Context, volume ipns.Name, steal bool) error {
	undo, err := l.table.ask(volume, steal)
	if held := new(HeldError); errors.As(err, &held) && !held.Holder.Ending {
		l.ask(ctx) // it may have been given up, and that not been heard yet
		undo, err = l.table.ask(volume, steal)
	}
	if err != nil {
		return err
	}
	l.ask(ctx)
	defer l.nudge()
	if err := ctx.Err(); err != nil {
		undo()
		return fmt.Errorf("ask the other hosts for a lease: %w", err)
	}
	return l.table.confirm(volume)
}

// Keep takes the lease of a volume that this host wrote to before its start. Nobody is asked.
func (l *Leases) Keep(volume ipns.Name) {
	l.table.keep(volume)
	l.nudge()
}

// End tells whether this host writes to a volume no more, and gives its lease up when that is committed.
func (l *Leases) End(volume ipns.Name, ending bool) {
	l.table.end(volume, ending)
	l.nudge()
}

// Release gives the lease of a volume up. It does not wait until the others know.
func (l *Leases) Release(volume ipns.Name) {
	l.table.release(volume)
	l.nudge()
}

// Holder says who writes to a volume, as far as this host has heard.
func (l *Leases) Holder(volume ipns.Name) (Holder, bool) { return l.table.holder(volume) }

// nudge has the others told in a moment.
func (l *Leases) nudge() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// ask tells the others what this host wants, and hears what they have, for at most askTime.
func (l *Leases) ask(ctx context.Context) {
	l.mu.Lock()
	s := l.speaker
	l.mu.Unlock()
	if s != nil {
		s.ask(ctx)
	}
}

// hear takes over what a host says that it holds.
func (l *Leases) hear(from peer.ID, data []byte) error {
	m, err := decode(l.o.Namespace, data)
	if err != nil {
		return fmt.Errorf("leases of %s: %w", from, err)
	}
	clashes, err := l.table.hear(from, m)
	if err != nil {
		return fmt.Errorf("leases of %s: %w", from, err)
	}
	if l.o.heard != nil {
		l.o.heard(from)
	}
	for _, c := range clashes {
		if c.lost {
			l.log.Warn("another host has taken the lease of a volume that is written to here: what is committed here from now on is a fork",
				logVolume, c.volume, logPeer, from, logHost, m.host)
			l.nudge()
			continue
		}
		l.log.Warn("another host writes to the same volume: what both commit are forks", logVolume, c.volume, logPeer, from, logHost, m.host)
	}
	return nil
}

// message is what this host says that it holds; empty if it may not hold anything.
func (l *Leases) message() ([]byte, error) {
	if !l.o.Namespace.CanWrite() {
		return nil, nil
	}
	return l.table.message().encode(l.o.Namespace)
}

// Join has this host tell those of its namespace in a network what it holds, and hear what they do, until leave is
// called. It is in one network at a time.
func (l *Leases) Join(ctx context.Context, h host.Host) (leave func() error, _ error) {
	s, err := l.speak(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("tell other hosts of leases: %w", err)
	}
	l.mu.Lock()
	l.speaker = s
	l.mu.Unlock()
	return func() error {
		l.mu.Lock()
		l.speaker = nil
		l.mu.Unlock()
		return s.close()
	}, nil
}
