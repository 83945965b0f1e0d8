package pinsettest

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// Memory is a Set in memory. It must be made by NewMemory.
type Memory struct {
	mu   sync.Mutex
	pins map[owned]pinset.Pin
}

type owned struct {
	root  cid.Cid
	owner string
}

var _ pinset.Set = (*Memory)(nil)

// NewMemory returns an empty set.
func NewMemory() *Memory { return &Memory{pins: make(map[owned]pinset.Pin)} }

// Add records a pin.
func (m *Memory) Add(ctx context.Context, p pinset.Pin) error {
	if !p.Root.Defined() {
		return errors.New("pin without a root")
	}
	if err := pinset.CheckOwner(p.Owner); err != nil {
		return err
	}
	key := owned{p.Root, p.Owner}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.Created.IsZero() {
		p.Created = m.pins[key].Created
	}
	if p.Created.IsZero() {
		p.Created = time.Now()
	}
	p.Meta = maps.Clone(p.Meta)
	m.pins[key] = p
	return ctx.Err()
}

// Remove forgets an owner's pin.
func (m *Memory) Remove(ctx context.Context, root cid.Cid, owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pins, owned{root, owner})
	return ctx.Err()
}

// Status tells what is known of a root.
func (m *Memory) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	status := pinset.Status{State: pinset.Unpinned}
	for key, p := range m.pins {
		if key.root == root {
			status.State, status.Pins = pinset.Pinned, append(status.Pins, p)
		}
	}
	slices.SortFunc(status.Pins, func(a, b pinset.Pin) int { return cmp.Compare(a.Owner, b.Owner) })
	return status, ctx.Err()
}

// All lists the pins.
func (m *Memory) All(ctx context.Context) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		m.mu.Lock()
		pins := slices.Collect(maps.Values(m.pins))
		m.mu.Unlock()
		slices.SortFunc(pins, func(a, b pinset.Pin) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Root.KeyString(), b.Root.KeyString()), cmp.Compare(a.Owner, b.Owner))
		})
		for _, p := range pins {
			if !yield(p, ctx.Err()) {
				return
			}
		}
	}
}
