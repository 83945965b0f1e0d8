package exchange

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// requestsOfPeer is how many requests to one peer are under way, so that one is always being answered.
	requestsOfPeer = 4
	// banTime is how long one is not asked who sent wrong bytes banAfter times: a block may be damaged on a disk.
	banTime  = 10 * time.Minute
	banAfter = 3
	// backoffLeast and backoffMost bound how long one is not asked who failed to answer.
	backoffLeast = time.Second
	backoffMost  = 30 * time.Second
	// askAgain is after what time those who lacked a block are asked for it once more.
	askAgain = 5 * time.Second
	// barrenTime is how long others are asked before one whose answer had nothing.
	barrenTime = 2 * time.Second
	// tick is how often it is looked for what takes too long.
	tick = 250 * time.Millisecond
)

// remote is a peer that is connected. Its fields are under Exchange.mu.
type remote struct {
	id       peer.ID
	swaps    bool      // it knows bitswap alone
	flights  int       // requests that are under way
	barren   time.Time // until when others are asked first, as its last answer had nothing
	failures int       // since it answered last
	wrong    int       // blocks that were others
	until    time.Time
	gone     bool

	came   int // bytes, since it had no lanes last
	lanes  int // that there are, or are being opened
	unused []unused
	noLane time.Time // until when none is opened
}

// watch keeps account of who is connected, until Close.
func (x *Exchange) watch() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-x.ctx.Done():
			return
		case e, open := <-x.events.Out():
			if !open {
				return
			}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				x.look(e.Peer)
			case event.EvtPeerProtocolsUpdated:
				x.look(e.Peer)
			case event.EvtPeerConnectednessChanged:
				x.look(e.Peer)
			}
		case <-ticker.C:
			x.mu.Lock()
			x.again()
			x.dispatch()
			x.mu.Unlock()
		}
	}
}

// look notes whether a peer is there, and what it can be asked by.
func (x *Exchange) look(p peer.ID) {
	there := x.host.Network().Connectedness(p) == network.Connected
	own, err := x.host.Peerstore().SupportsProtocols(p, Protocol)
	owns := err == nil && len(own) > 0
	swapped, err := x.host.Peerstore().SupportsProtocols(p, swapProtocols...)
	swaps := err == nil && len(swapped) > 0

	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.peers[p]
	switch {
	case !there || !owns && !swaps:
		if r != nil {
			r.gone = true
			x.closeUnused(r, true)
			delete(x.peers, p)
		}
	case r == nil:
		x.peers[p] = &remote{id: p, swaps: !owns, until: x.banned[p]}
		x.dispatch()
	case r.swaps == owns:
		r.swaps = !owns
		x.dispatch()
	}
}

// again has those asked once more who lacked a block some time ago. It is called with mu held.
func (x *Exchange) again() {
	now := time.Now()
	for _, w := range x.queue {
		if w.flights == 0 && len(w.asked) > 0 && now.Sub(w.since) > askAgain {
			clear(w.asked)
		}
	}
	for _, r := range x.peers {
		x.closeUnused(r, false)
	}
	for p, until := range x.banned {
		if now.After(until) {
			delete(x.banned, p)
		}
	}
}

// candidates are the peers that can take a request now, who have the fewest first. It is called with mu held.
func (x *Exchange) candidates() []*remote {
	now := time.Now()
	var free []*remote
	for _, r := range x.peers {
		if !r.swaps && r.flights < requestsOfPeer && !now.Before(r.until) {
			free = append(free, r)
		}
	}
	slices.SortFunc(free, func(a, b *remote) int {
		if first := a.barren.After(now); first != b.barren.After(now) {
			if first {
				return 1
			}
			return -1
		}
		return a.flights - b.flights
	})
	return free
}

// asksFirst reports whether somebody else is to be asked for a want before one whose last answer had nothing.
func (x *Exchange) asksFirst(w *want) bool {
	now := time.Now()
	for _, r := range x.peers {
		if !r.swaps && !r.barren.After(now) && !w.refuses(r) && !now.Before(r.until) {
			return true
		}
	}
	return false
}

// lied notes that a peer sent other bytes than those of a block. It is not asked for that any more, and once it did so
// a few times, for nothing.
func (x *Exchange) lied(r *remote, w *want) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w.lied = append(w.lied, r)
	if r.wrong++; r.wrong < banAfter {
		return
	}
	const most = 1024
	r.until = time.Now().Add(banTime)
	if len(x.banned) < most {
		x.banned[r.id] = r.until
	}
}

// failed has a peer rest that did not answer.
func (x *Exchange) failed(r *remote) {
	x.mu.Lock()
	defer x.mu.Unlock()
	rest := min(backoffLeast<<min(r.failures, 10), backoffMost)
	r.failures++
	if until := time.Now().Add(rest); until.After(r.until) {
		r.until = until
	}
}
