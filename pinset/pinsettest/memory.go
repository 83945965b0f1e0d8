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
	pins map[cid.Cid]pinset.Pin
}

var _ pinset.Set = (*Memory)(nil)

// NewMemory returns an empty set.
func NewMemory() *Memory { return &Memory{pins: make(map[cid.Cid]pinset.Pin)} }

// Add records a pin.
func (m *Memory) Add(ctx context.Context, p pinset.Pin) error {
	if !p.Root.Defined() {
		return errors.New("pin without a root")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.Created.IsZero() {
		p.Created = m.pins[p.Root].Created
	}
	if p.Created.IsZero() {
		p.Created = time.Now()
	}
	p.Meta = maps.Clone(p.Meta)
	m.pins[p.Root] = p
	return ctx.Err()
}

// Remove forgets a pin.
func (m *Memory) Remove(ctx context.Context, root cid.Cid) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pins, root)
	return ctx.Err()
}

// Status tells what is known of a root.
func (m *Memory) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.pins[root]
	if !ok {
		return pinset.Status{Pin: pinset.Pin{Root: root}, State: pinset.Unpinned}, ctx.Err()
	}
	return pinset.Status{Pin: p, State: pinset.Pinned}, ctx.Err()
}

// All lists the pins.
func (m *Memory) All(ctx context.Context) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		m.mu.Lock()
		pins := slices.Collect(maps.Values(m.pins))
		m.mu.Unlock()
		slices.SortFunc(pins, func(a, b pinset.Pin) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Root.KeyString(), b.Root.KeyString()))
		})
		for _, p := range pins {
			if !yield(p, ctx.Err()) {
				return
			}
		}
	}
}
