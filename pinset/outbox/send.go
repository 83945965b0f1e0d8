package outbox

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Keys of log records.
const (
	logRoot     = "root"
	logOp       = "op"
	logAttempts = "attempts"
	logError    = "error"
)

// run begins with what is due, until the queue is closed.
func (q *Queue) run() {
	for {
		timer := time.NewTimer(q.begin())
		select {
		case <-q.ctx.Done():
			timer.Stop()
			return
		case <-q.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// never is longer than anybody waits.
const never = 24 * time.Hour

// begin has workers tell the set what is due, as many as may work at once, and returns when to look again.
func (q *Queue) begin() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return never
	}
	var later []*item // their root is being told of for another owner
	defer func() {
		for _, it := range later {
			heap.Push(&q.due, it)
		}
	}()
	for len(q.due) > 0 && len(q.sending) < q.o.Workers {
		now := time.Now()
		if wait := q.due[0].due.Sub(now); wait > 0 {
			return wait
		}
		it := heap.Pop(&q.due).(*item)
		if q.sending[it.Pin.Root] {
			later = append(later, it)
			continue
		}
		it.sending, q.sending[it.Pin.Root] = true, true
		if it.groupPin() {
			q.group(it.Group).started = now
		}
		e := it.Entry
		q.workers.Go(func() { q.send(it, e) })
	}
	if len(q.items) == 0 {
		q.forgetGroups(time.Now())
	}
	return never
}

func (q *Queue) send(it *item, e Entry) {
	began := time.Now()
	err := q.step(StepSend)
	if err == nil {
		ctx, cancel := context.WithTimeoutCause(q.ctx, q.o.Timeout, errTimeout)
		if e.Op == Pin {
			err = q.o.Pin(ctx, e)
		} else {
			err = q.o.Set.Remove(ctx, e.Pin.Root, e.Pin.Owner)
		}
		if err != nil && errors.Is(context.Cause(ctx), errTimeout) {
			err = errors.Join(errTimeout, err)
		}
		cancel()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	it.sending = false
	delete(q.sending, e.Pin.Root)
	if err != nil && q.ctx.Err() != nil {
		return // the next one does it again
	}
	if q.o.Observe != nil {
		q.o.Observe(Outcome{Entry: e, Err: err, Took: time.Since(began), Age: time.Since(it.Since)})
	}
	if err == nil {
		err = q.succeeded(it)
	}
	if err != nil {
		q.failed(it, err)
	}
	close(q.changed)
	q.changed = make(chan struct{})
	q.wakeUp()
}

var errTimeout = errors.New("took too long")

// succeeded forgets what the set was told. The error says that it could not be forgotten.
func (q *Queue) succeeded(it *item) error {
	if it.newer == nil {
		if err := q.write(StepDone, nil, it.key()); err != nil {
			return err
		}
		delete(q.items, it.key())
	}
	q.stats.LastSuccess = time.Now()
	if it.Op == Pin {
		q.stats.Pinned++
	} else {
		q.stats.Unpinned++
	}
	if it.groupPin() {
		g := q.group(it.Group)
		if g.pending == it && it.newer == nil {
			g.pending = nil
		}
		g.taken = max(g.taken, it.Order)
		q.release(g)
	}
	if it.newer == nil {
		it.leave()
		return nil
	}
	it.record, it.newer = *it.newer, nil
	q.schedule(it, time.Now())
	return nil
}

// failed sees to it that an item is tried again, or what took its place.
func (q *Queue) failed(it *item, cause error) {
	now := time.Now()
	it.Attempts++
	it.failedIn = q.drains
	it.Tried, it.Error = now, cause.Error()
	q.stats.Failed++
	q.stats.LastError, q.stats.LastFailure = it.Error, now
	// Of many failures only the 1st, 2nd, 4th, 8th and so on are told and recorded: a set may be away for days.
	notable := it.Attempts&(it.Attempts-1) == 0
	if notable {
		q.o.Logger.Warn("pin set was not told", logOp, it.Op, logRoot, it.Pin.Root, logAttempts, it.Attempts, logError, cause)
	}
	again := now.Add(q.backoff(it.Attempts))
	if it.newer != nil {
		if it.newer.Op == it.Op {
			it.newer.inherit(&it.record)
		}
		it.record, it.newer = *it.newer, nil
		q.schedule(it, again)
		return
	}
	if q.outdated(it) && q.write(StepRetry, nil, it.key()) == nil {
		if p := q.group(it.Group).pending; p != nil {
			p.last().inherit(&it.record)
		}
		q.drop(it)
		return
	}
	if notable {
		if err := q.write(StepRetry, &it.record); err != nil {
			// The attempts are not recorded then, and nothing else is lost.
			q.o.Logger.Error("a failure could not be recorded", logRoot, it.Pin.Root, logError, err)
		}
	}
	q.enlist(it, again)
}

// outdated reports whether a newer pin of its group has taken the place of one, or gone through, while it was sent.
func (q *Queue) outdated(it *item) bool {
	if !it.replaceable() {
		return false
	}
	g := q.group(it.Group)
	return g.pending != nil && g.pending != it || it.Order < g.taken
}

// backoff is how long to wait after so many failures: the half of it at least, so that not all come at once.
func (q *Queue) backoff(attempts int) time.Duration {
	d := q.o.MaxBackoff
	if shift := attempts - 1; shift < 30 && q.o.MinBackoff<<shift > 0 {
		d = min(d, q.o.MinBackoff<<shift)
	}
	return d/2 + rand.N(d/2+1)
}
