package table

import (
	"context"
	"slices"
	"sync"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/head"
)

// mostWaiting is how many changes wait for a watcher who does not take them.
const mostWaiting = 4096

// Change is something new of a volume: heads that it did not have, or a binding.
type Change struct {
	Volume ipns.Name
	Heads  []head.Head // none: its binding changed
	Own    bool        // this host did it
	// Missed says that changes before this one were too many to be kept. There is no volume then: look at all.
	Missed bool
}

// Watcher is told what changes in a table. It must be made by [Table.Watch].
type Watcher struct {
	t     *Table
	ready chan struct{} // has an element if something waits

	mu      sync.Mutex
	waiting []Change
	missed  bool
}

// Watch begins to note what changes from now on. Who watches closes the watcher.
func (t *Table) Watch() *Watcher {
	w := &Watcher{t: t, ready: make(chan struct{}, 1)}
	t.watching.Lock()
	defer t.watching.Unlock()
	t.watchers = append(t.watchers, w)
	return w
}

// Close ends the watching.
func (w *Watcher) Close() {
	w.t.watching.Lock()
	defer w.t.watching.Unlock()
	w.t.watchers = slices.DeleteFunc(w.t.watchers, func(o *Watcher) bool { return o == w })
}

// Next returns the next change, which is durable, once there is one.
func (w *Watcher) Next(ctx context.Context) (Change, error) {
	for {
		if c, ok := w.take(); ok {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return Change{}, ctx.Err()
		case <-w.ready:
		}
	}
}

func (w *Watcher) take() (c Change, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missed {
		w.missed = false
		return Change{Missed: true}, true
	}
	if len(w.waiting) == 0 {
		return Change{}, false
	}
	c, w.waiting = w.waiting[0], w.waiting[1:]
	return c, true
}

func (w *Watcher) note(cs []Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting = append(w.waiting, cs...); len(w.waiting) > mostWaiting {
		w.waiting, w.missed = nil, true
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// changed tells all who watch.
func (t *Table) changed(cs []Change) {
	if len(cs) == 0 {
		return
	}
	t.watching.Lock()
	defer t.watching.Unlock()
	for _, w := range t.watchers {
		w.note(cs)
	}
}

// changes are those of plans, and of bindings that are new.
func changes(plans map[ipns.Name]plan, bound []ipns.Name, own bool) (cs []Change) {
	for key, p := range plans {
		if p.news {
			cs = append(cs, Change{Volume: key, Heads: p.add, Own: own})
		}
	}
	for _, key := range bound {
		cs = append(cs, Change{Volume: key, Own: own})
	}
	return cs
}
