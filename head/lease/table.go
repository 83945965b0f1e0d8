package lease

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	errOld  = errors.New("it said something newer before")
	errMany = errors.New("too many leases are held to remember them all")
)

// claim is what a host says of a volume: that it writes to it, or asks whether it may. The larger term counts, and who
// takes a lease away has one more than it knows of.
type claim struct {
	term   uint64
	asked  bool
	ending bool // nothing more is written, and what was is being committed
}

// told is what a host said last.
type told struct {
	host    string
	counter uint64
	until   time.Time
	claims  map[ipns.Name]claim
}

// table is who claims what. It does no more than it is told, and is safe for concurrent use.
type table struct {
	self     peer.ID
	host     string
	duration time.Duration
	now      func() time.Time

	mu      sync.Mutex
	counter uint64
	own     map[ipns.Name]claim
	others  map[peer.ID]*told
	total   int // claims in others
}

// rival is the host that has, or asks for, a volume, beside this one: one that has it before one that asks, then the one
// of the larger term, then one that writes before one that only commits what it wrote.
func (t *table) rival(v ipns.Name) (h Holder, c claim, is bool) {
	now := t.now()
	for p, o := range t.others {
		theirs, claims := o.claims[v]
		if !claims || !now.Before(o.until) {
			continue
		}
		if !is || before(theirs, p, c, h.Peer) {
			h, c, is = Holder{Peer: p, Host: o.host, Until: o.until, Ending: theirs.ending}, theirs, true
		}
	}
	return h, c, is
}

// before reports whether a claim counts before another one.
func before(a claim, ofA peer.ID, b claim, ofB peer.ID) bool {
	switch {
	case a.asked != b.asked:
		return !a.asked
	case a.term != b.term:
		return a.term > b.term
	case a.ending != b.ending:
		return !a.ending
	}
	return ofA < ofB
}

// ask begins to claim a volume, unless another host does; with steal it is taken. undo puts what this host had in the
// place of that.
func (t *table) ask(v ipns.Name, steal bool) (undo func(), _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine, has := t.own[v]
	h, theirs, is := t.rival(v)
	switch {
	case mine.ending && !steal:
		t.own[v] = claim{term: mine.term}
	case has && !mine.asked && (!steal || !is || before(mine, t.self, theirs, h.Peer) && mine.term > theirs.term):
		return func() {}, nil
	case is && !steal:
		return nil, &HeldError{h}
	case !has && len(t.own) >= MaxVolumes:
		return func() {}, nil
	case is:
		t.own[v] = claim{term: min(max(mine.term, theirs.term), maxTerm-1) + 1}
	default:
		t.own[v] = claim{asked: true}
	}
	if has && !mine.asked {
		return func() { t.set(v, mine) }, nil
	}
	return func() { t.release(v) }, nil
}

func (t *table) set(v ipns.Name, c claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.own[v] = c
}

// confirm ends what ask began, once others have heard it: of two that ask, the host of the smaller ID gets it.
func (t *table) confirm(v ipns.Name) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.own[v]
	if !mine.asked {
		return nil
	}
	if h, theirs, is := t.rival(v); is && before(theirs, h.Peer, mine, t.self) {
		delete(t.own, v)
		return &HeldError{h}
	}
	t.own[v] = claim{}
	return nil
}

func (t *table) keep(v ipns.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, has := t.own[v]; !has && len(t.own) < MaxVolumes {
		t.own[v] = claim{}
	}
}

func (t *table) end(v ipns.Name, ending bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine, has := t.own[v]; has && !mine.asked {
		mine.ending = ending
		t.own[v] = mine
	}
}

func (t *table) release(v ipns.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.own, v)
}

func (t *table) holder(v ipns.Name) (Holder, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine, has := t.own[v]; has && !mine.asked {
		return Holder{Peer: t.self, Host: t.host, Here: true, Ending: mine.ending}, true
	}
	h, theirs, is := t.rival(v)
	return h, is && !theirs.asked
}

func (t *table) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.own) == 0
}

// message is what this host says now. Its counter is larger than those before, also than those before its start.
func (t *table) message() message {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counter = max(t.counter+1, uint64(max(t.now().UnixNano(), 0)))
	return message{peer: t.self, counter: t.counter, duration: t.duration, host: t.host, claims: maps.Clone(t.own)}
}

// clash is a volume that another host claims beside this one.
type clash struct {
	volume ipns.Name
	lost   bool // this host gave it up
}

// hear takes over what a host says, in the place of what it said before. Claims of this host's that count less, because
// the lease was taken away, end.
func (t *table) hear(from peer.ID, m message) (clashes []clash, _ error) {
	if m.peer != from {
		return nil, fmt.Errorf("they are said to be those of %s: %w", m.peer, ErrFormat)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	was := t.others[from]
	if was == nil {
		was = &told{}
	}
	total := t.total - len(was.claims) + len(m.claims)
	switch {
	case m.counter <= was.counter:
		return nil, fmt.Errorf("counter %d after %d: %w", m.counter, was.counter, errOld)
	case was.claims == nil && len(t.others) >= mostPeers, total > mostLeases:
		return nil, errMany
	}
	t.total = total
	t.others[from] = &told{host: m.host, counter: m.counter, until: t.now().Add(m.duration), claims: m.claims}
	for v, theirs := range m.claims {
		mine, has := t.own[v]
		if !has || mine.asked || theirs.asked {
			continue
		}
		if theirs.term == mine.term && (mine.ending || theirs.ending) {
			if !theirs.ending { // it was taken while this host was not heard of
				delete(t.own, v)
				clashes = append(clashes, clash{v, true})
			}
			continue
		}
		if theirs.term != mine.term || theirs.term > 0 {
			if before(theirs, from, mine, t.self) {
				delete(t.own, v)
				clashes = append(clashes, clash{v, true})
			}
			continue
		}
		if _, known := was.claims[v]; !known {
			clashes = append(clashes, clash{v, false})
		}
	}
	return clashes, nil
}

// expire forgets hosts that were not heard of for as long as they said.
func (t *table) expire() {
	now := t.now()
	for p, o := range t.others {
		if !now.Before(o.until) {
			t.total -= len(o.claims)
			delete(t.others, p)
		}
	}
}
