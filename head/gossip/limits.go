package gossip

import (
	"context"
	"errors"
	"maps"
	"math"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// costInvalid is how many messages one counts for that is not signed.
	costInvalid = 50
	// maxExcess is for how many messages above its rate a peer is disconnected, and not listened to for banned.
	maxExcess = 2000
	banned    = time.Minute
	// excessHalves is the time in which half of an excess is forgiven.
	excessHalves = 30 * time.Second
	// mostPeers bounds the memory for peers, also those that are not connected any more.
	mostPeers = 4096
)

// limits count what peers send. It must be made by newLimits; it is safe for concurrent use.
type limits struct {
	rate, burst float64

	mu    sync.Mutex
	peers map[peer.ID]*allowance
}

// allowance is what a peer may still send.
type allowance struct {
	left   float64
	excess float64 // what it sent that it was not allowed to
	at     time.Time
	until  time.Time // it is not listened to before
}

func newLimits(rate, burst int) *limits {
	return &limits{rate: float64(rate), burst: float64(burst), peers: map[peer.ID]*allowance{}}
}

// take counts cost for a peer, and reports whether it may send that. flooded is true once when it is banned.
func (l *limits) take(p peer.ID, cost float64, now time.Time) (ok, flooded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.peers[p]
	if a == nil {
		l.makeRoom(now)
		a = &allowance{left: l.burst, at: now}
		l.peers[p] = a
	}
	if now.Before(a.until) {
		return false, false
	}
	a.pass(now, l.rate, l.burst)
	if a.left >= cost {
		a.left -= cost
		return true, false
	}
	a.excess += cost
	if a.excess > maxExcess {
		a.until = now.Add(banned)
		return false, true
	}
	return false, false
}

func (a *allowance) pass(now time.Time, rate, burst float64) {
	passed := max(now.Sub(a.at), 0)
	a.left = min(burst, a.left+rate*passed.Seconds())
	a.excess *= math.Exp2(-float64(passed) / float64(excessHalves))
	a.at = now
}

// makeRoom forgets peers that were silent for long, or any if there are too many.
func (l *limits) makeRoom(now time.Time) {
	if len(l.peers) < mostPeers {
		return
	}
	maps.DeleteFunc(l.peers, func(_ peer.ID, a *allowance) bool { return now.Sub(a.at) > banned })
	for p := range l.peers {
		if len(l.peers) < mostPeers {
			return
		}
		delete(l.peers, p)
	}
}

// score is what a peer's excess takes from its score.
func (l *limits) score(p peer.ID) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.peers[p]; a != nil {
		return -a.excess
	}
	return 0
}

var errTooMuch = errors.New("the peer sends too much")

// inspect is asked about each packet of a peer before anything is done with it.
func (g *Gossip) inspect(from peer.ID, rpc *pubsub.RPC) error {
	c := rpc.GetControl()
	cost := 1 + len(rpc.GetPublish()) + len(c.GetGraft()) + len(c.GetPrune())
	for _, have := range c.GetIhave() {
		cost += 1 + len(have.GetMessageIDs())/64
	}
	for _, want := range c.GetIwant() {
		cost += 1 + len(want.GetMessageIDs())/16
	}
	for _, dont := range c.GetIdontwant() {
		cost += 1 + len(dont.GetMessageIDs())/64
	}
	if !g.charge(from, cost) {
		return errTooMuch
	}
	return nil
}

// charge counts what a peer sent, and disconnects one that floods.
func (g *Gossip) charge(from peer.ID, cost int) bool {
	ok, flooded := g.limits.take(from, float64(cost), time.Now())
	if flooded {
		g.log.Warn("a peer floods; it is disconnected", "peer", from, "for", banned)
		select {
		case g.flooders <- from:
		default: // it is not listened to all the same
		}
	}
	return ok
}

// dismiss disconnects peers that flood, until ctx is done.
func (g *Gossip) dismiss(ctx context.Context) {
	for {
		select {
		case p := <-g.flooders:
			if err := g.h.Network().ClosePeer(p); err != nil {
				g.log.Debug("cannot disconnect a peer", "peer", p, "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
