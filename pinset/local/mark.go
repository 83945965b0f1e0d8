package local

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// A marker walks DAGs in parallel and marks each CID once. What waits to be walked is a stack, so that it is no
// longer than the links of the nodes on the way to where the workers are.
type marker struct {
	store   Store
	sweep   Sweep
	lenient bool // other hosts may have what was never here

	mu        sync.Mutex
	wake      sync.Cond
	stack     []cid.Cid
	busy      int // workers that may still push
	err       error
	roots     int
	missing   []cid.Cid // as in Report
	damaged   []cid.Cid
	elsewhere []cid.Cid
	withheld  bool
}

func newMarker(store Store, sweep Sweep) *marker {
	m := &marker{store: store, sweep: sweep}
	m.wake.L = &m.mu
	return m
}

func (m *marker) report() Report {
	return Report{Roots: m.roots, Missing: m.missing, Damaged: m.damaged, Elsewhere: m.elsewhere, Withheld: m.withheld}
}

// mark marks roots and all that is below them.
func (m *marker) mark(ctx context.Context, roots []cid.Cid) error {
	m.roots += len(roots)
	if err := m.push(ctx, roots); err != nil || len(m.stack) == 0 {
		return err
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() { m.work(ctx) })
	}
	wg.Wait()
	return m.err
}

func (m *marker) work(ctx context.Context) {
	for {
		c, ok := m.pop()
		if !ok {
			return
		}
		err := m.visit(ctx, c)
		m.mu.Lock()
		m.busy--
		if m.err == nil {
			m.err = err
		}
		m.mu.Unlock()
		m.wake.Broadcast()
	}
}

// pop takes the next CID to be walked; false once there is none and will be none.
func (m *marker) pop() (cid.Cid, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.stack) == 0 && m.busy > 0 && m.err == nil {
		m.wake.Wait()
	}
	if len(m.stack) == 0 || m.err != nil {
		return cid.Undef, false
	}
	c := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	m.busy++
	return c, true
}

func (m *marker) visit(ctx context.Context, c cid.Cid) error {
	b, err := m.store.Get(ctx, c)
	if err == nil {
		var links []cid.Cid
		if links, err = snapshot.Links(b); err == nil {
			return m.push(ctx, links)
		}
	}
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return m.miss(ctx, c)
	case errors.Is(err, snapshot.ErrDamaged), errors.Is(err, snapshot.ErrFormat):
		m.lack(&m.damaged, c)
	default:
		return err
	}
	return nil
}

// push marks CIDs and keeps those that have links for a visit.
func (m *marker) push(ctx context.Context, cs []cid.Cid) error {
	var inner []cid.Cid
	for _, c := range cs {
		first, found, err := m.sweep.Mark(ctx, c)
		switch {
		case err != nil:
			return err
		case !found:
			if err := m.miss(ctx, c); err != nil {
				return err
			}
		case first && c.Prefix().Codec != cid.Raw:
			inner = append(inner, c)
		}
	}
	m.mu.Lock()
	m.stack = append(m.stack, inner...)
	m.mu.Unlock()
	m.wake.Broadcast()
	return nil
}

// miss notes a block that is not there. One that was here and is lost is known to the store, and damaged.
func (m *marker) miss(ctx context.Context, c cid.Cid) error {
	if m.lenient {
		switch _, err := m.store.Get(ctx, c); {
		case errors.Is(err, snapshot.ErrNotFound):
			m.mu.Lock()
			defer m.mu.Unlock()
			note(&m.elsewhere, c)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	m.lack(&m.missing, c)
	return nil
}

// lack notes a block that is not there or not what it should be, and should be here.
func (m *marker) lack(list *[]cid.Cid, c cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Prefix().Codec != cid.Raw {
		m.withheld = true
	}
	note(list, c)
}

// note puts a CID into a list of the first ones.
func note(list *[]cid.Cid, c cid.Cid) {
	at, known := slices.BinarySearchFunc(*list, c, func(a, b cid.Cid) int { return cmp.Compare(a.KeyString(), b.KeyString()) })
	if known || at == MaxMissing {
		return
	}
	*list = slices.Insert(*list, at, c)
	*list = (*list)[:min(len(*list), MaxMissing)]
}
