package outbox

import (
	"container/heap"
	"maps"
	"time"
)

// item is an owner's pin of a root, with which something is to be done. Queue.mu guards all of it.
type item struct {
	record
	due      time.Time
	index    int     // its place in the heap; -1 while it is sent or held
	sending  bool    // record is what the set is being told
	newer    *record // what is to be done after that
	held     bool
	failedIn int           // the last drain that had begun when it failed
	gone     chan struct{} // closed when the item leaves; nil if nobody waits
}

// last is what is to become of it in the end.
func (it *item) last() *record {
	if it.newer != nil {
		return it.newer
	}
	return &it.record
}

// group is what pins replace each other in.
type group struct {
	pending *item              // the newest pin, if it did not go through yet
	started time.Time          // when the last pin was begun with
	taken   uint64             // the order of the newest pin that went through
	held    map[*item]struct{} // unpins that wait for a pin to go through
}

func (q *Queue) group(name string) *group {
	g := q.groups[name]
	if g == nil {
		g = &group{held: map[*item]struct{}{}}
		q.groups[name] = g
	}
	return g
}

// forgetGroups drops what says nothing any more.
func (q *Queue) forgetGroups(now time.Time) {
	maps.DeleteFunc(q.groups, func(_ string, g *group) bool {
		return g.pending == nil && len(g.held) == 0 && now.Sub(g.started) >= q.o.Interval
	})
}

// put records a wish and puts it in its place.
func (q *Queue) put(e Entry) error {
	now := time.Now()
	r := &record{Entry: e, Since: now}
	it := q.items[r.key()]
	if it != nil && it.last().Op == r.Op {
		r.inherit(it.last())
		r.Keep = r.Keep || it.last().Keep && r.Op == Pin
	}
	var replaced *item
	if r.groupPin() {
		if p := q.group(r.Group).pending; p != nil && p != it && p.last().replaceable() {
			r.inherit(p.last())
			if !p.sending {
				replaced = p
			}
		}
	}
	var forget []pinKey
	if replaced != nil {
		forget = append(forget, replaced.key())
	}
	if err := q.write(StepQueue, r, forget...); err != nil {
		return err
	}
	notBefore := now
	if replaced != nil {
		notBefore = replaced.notBefore(now)
		q.drop(replaced)
	}
	if it == nil {
		it = &item{index: -1}
		q.items[r.key()] = it
	} else {
		notBefore = it.notBefore(now)
	}
	q.replace(it, r, notBefore)
	return nil
}

// notBefore is when what takes an item's place may be tried, if the item failed.
func (it *item) notBefore(now time.Time) time.Time {
	if it.Attempts > 0 && it.due.After(now) {
		return it.due
	}
	return now
}

// replace makes a wish what is to be done with an item.
func (q *Queue) replace(it *item, r *record, notBefore time.Time) {
	if it.sending {
		q.leaveGroup(it, r)
		it.newer = r
	} else {
		q.unlist(it)
		q.leaveGroup(it, r)
		it.record = *r
	}
	if r.groupPin() {
		q.group(r.Group).pending = it
	}
	if !it.sending {
		q.schedule(it, notBefore)
	}
}

// leaveGroup lets others of an item's group go on without it, unless its next wish is a pin of the group too.
func (q *Queue) leaveGroup(it *item, next *record) {
	old := it.last()
	if !old.groupPin() || next != nil && next.groupPin() && next.Group == old.Group {
		return
	}
	if g := q.group(old.Group); g.pending == it {
		g.pending = nil
		q.release(g)
	}
}

// release lets the held unpins of a group go.
func (q *Queue) release(g *group) {
	for it := range g.held {
		delete(g.held, it)
		it.held = false
		q.enlist(it, time.Now())
	}
}

// schedule finds an item's place: among the held ones, or in time.
func (q *Queue) schedule(it *item, notBefore time.Time) {
	now := time.Now()
	due := notBefore
	switch {
	case it.Op == Unpin && it.Group != "":
		if g := q.group(it.Group); g.pending != nil {
			g.held[it], it.held = struct{}{}, true
			return
		}
	case it.Keep:
		due = now
	case it.groupPin():
		if next := q.group(it.Group).started.Add(q.o.Interval); next.After(due) {
			due = next
		}
	}
	q.enlist(it, due)
}

func (q *Queue) enlist(it *item, due time.Time) {
	it.due = due
	heap.Push(&q.due, it)
}

func (q *Queue) unlist(it *item) {
	if it.index >= 0 {
		heap.Remove(&q.due, it.index)
	}
	if it.held {
		delete(q.group(it.Group).held, it)
		it.held = false
	}
}

// drop forgets an item that is forgotten on the disk.
func (q *Queue) drop(it *item) {
	q.unlist(it)
	delete(q.items, it.key())
	q.stats.Replaced++
	it.leave()
}

func (it *item) leave() {
	if it.gone != nil {
		close(it.gone)
		it.gone = nil
	}
}

// dueHeap has the items that are neither sent nor held, the next one first.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for container/heap.
func (h *dueHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

// Pop is for container/heap.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	it := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	it.index = -1
	return it
}
