package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// ErrWaiting says that something did not go through yet.
var ErrWaiting = errors.New("not all was taken by the pin set")

// Replaceable returns the pin whose place in a group the next one takes, if one waits.
func (q *Queue) Replaceable(group string) (Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if g := q.groups[group]; g != nil && g.pending != nil && g.pending.last().replaceable() {
		return g.pending.last().Entry, true
	}
	return Entry{}, false
}

// Waiting lists what did not go through yet, the oldest first.
func (q *Queue) Waiting() []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Waiting, 0, len(q.items))
	for _, it := range q.items {
		r := it.last()
		w := Waiting{
			Entry: r.Entry, Since: r.Since, Attempts: r.Attempts, Tried: r.Tried, Error: r.Error,
			Sending: it.sending, Held: it.held,
		}
		if it.index >= 0 {
			w.Next = it.due
		}
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b Waiting) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Pin.Root.KeyString(), b.Pin.Root.KeyString()))
	})
	return all
}

// Stats tells how the queue does.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Waiting, s.Sending = len(q.items), len(q.sending)
	for _, it := range q.items {
		if since := it.last().Since; s.Oldest.IsZero() || since.Before(s.Oldest) {
			s.Oldest = since
		}
	}
	return s
}

// Retry tries all that failed now, as when the set is known to be back.
func (q *Queue) Retry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hurry(func(it *item) bool { return it.Attempts > 0 })
}

// hurry makes items due. The caller holds mu.
func (q *Queue) hurry(which func(*item) bool) {
	now := time.Now()
	for _, it := range slices.Clone(q.due) {
		if which(it) && it.due.After(now) {
			q.unlist(it)
			q.enlist(it, now)
		}
	}
	q.wakeUp()
}

// Wait returns once nothing is to be done with an owner's pin of a root any more, and what the set then says. A pin that is waited
// for does not wait for the interval of its group, and no other takes its place.
func (q *Queue) Wait(ctx context.Context, root cid.Cid, owner string) (pinset.Status, error) {
	key := pinKey{root, owner}
	for {
		gone := q.await(key)
		if gone == nil {
			return q.o.Set.Status(ctx, root)
		}
		select {
		case <-gone:
		case <-q.ctx.Done():
			return pinset.Status{}, ErrClosed
		case <-ctx.Done():
			return pinset.Status{}, q.describe(key, context.Cause(ctx))
		}
	}
}

// await returns what is closed when a pin leaves the queue, or nil if it is not in it.
func (q *Queue) await(key pinKey) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	if it == nil {
		return nil
	}
	if it.gone == nil {
		it.gone = make(chan struct{})
	}
	if r := it.last(); r.Op == Pin {
		r.Keep = true
	}
	q.hurry(func(other *item) bool { return other == it && it.Attempts == 0 })
	return it.gone
}

// describe says why a pin is still waiting.
func (q *Queue) describe(key pinKey, cause error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	if it == nil || it.last().Error == "" {
		return fmt.Errorf("wait for %s: %w", key.root, cause)
	}
	r := it.last()
	return fmt.Errorf("wait to %s %s, tried %d times (%s): %w", r.Op, key.root, r.Attempts, r.Error, cause)
}

// Drain tries all that waits once more, now, and returns when nothing is left. The error wraps ErrWaiting when all that
// is left has failed once more.
func (q *Queue) Drain(ctx context.Context) error {
	q.mu.Lock()
	q.drains++
	drain := q.drains
	q.hurry(func(*item) bool { return true })
	q.mu.Unlock()
	for {
		left, untried, changed := q.left(drain)
		switch {
		case left == 0:
			return nil
		case untried == 0:
			return fmt.Errorf("%d pins and unpins are left: %w", left, ErrWaiting)
		}
		select {
		case <-changed:
		case <-q.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%d pins and unpins are left: %w", left, context.Cause(ctx))
		}
	}
}

// left counts what waits, and what of it did not fail since a drain began and still will be tried.
func (q *Queue) left(drain int) (all, untried int, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.sending || !it.held && it.failedIn < drain {
			untried++
		}
	}
	return len(q.items), untried, q.changed
}
