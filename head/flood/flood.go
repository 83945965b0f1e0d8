// Package flood counts what peers send over GossipSub, and has those who send too much not be listened to.
//
// Start with [New]; [Guard.Inspect] is for pubsub.WithAppSpecificRpcInspector, [Guard.Score] for the score of a peer.
//
// It guarantees: what is remembered of peers is bounded; a peer that goes far beyond what it may send is disconnected,
// and what it says for a while after that is dropped.
package flood

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// DefaultRate and DefaultBurst are how many messages a peer may send in a second, and at once after it was silent.
	DefaultRate  = 500
	DefaultBurst = 5000

	// Invalid is how many messages one counts for that is not what it should be.
	Invalid = 50

	// maxExcess is for how many messages above its rate a peer is disconnected, and not listened to for banned.
	maxExcess = 2000
	banned    = time.Minute
	// excessHalves is the time in which half of an excess is forgiven.
	excessHalves = 30 * time.Second
	// mostPeers bounds the memory for peers, also those that are not connected any more.
	mostPeers = 4096
)

// Options of a Guard. Network is required.
type Options struct {
	Network     network.Network
	Rate, Burst int          // DefaultRate and DefaultBurst unless set
	Log         *slog.Logger // nil discards
}

// Guard counts what peers send. It must be made by New; it is safe for concurrent use.
type Guard struct {
	o           Options
	rate, burst float64
	flooders    chan peer.ID // to be disconnected

	mu    sync.Mutex
	peers map[peer.ID]*allowance
}

// New makes a guard that has heard nothing.
func New(o Options) *Guard {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Guard{
		o: o, rate: float64(cmp.Or(o.Rate, DefaultRate)), burst: float64(cmp.Or(o.Burst, DefaultBurst)),
		flooders: make(chan peer.ID, 16), peers: map[peer.ID]*allowance{},
	}
}

// allowance is what a peer may still send.
type allowance struct {
	left   float64
	excess float64 // what it sent that it was not allowed to
	at     time.Time
	until  time.Time // it is not listened to before
}

// take counts cost for a peer, and reports whether it may send that. flooded is true once when it is banned.
func (g *Guard) take(p peer.ID, cost float64, now time.Time) (ok, flooded bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.peers[p]
	if a == nil {
		g.makeRoom(now)
		a = &allowance{left: g.burst, at: now}
		g.peers[p] = a
	}
	if now.Before(a.until) {
		return false, false
	}
	a.pass(now, g.rate, g.burst)
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

// makeRoom forgets, of too many peers, those that were silent for long, or any: a quarter, so that it costs little.
func (g *Guard) makeRoom(now time.Time) {
	if len(g.peers) < mostPeers {
		return
	}
	maps.DeleteFunc(g.peers, func(_ peer.ID, a *allowance) bool { return now.Sub(a.at) > banned })
	for p := range g.peers {
		if len(g.peers) < mostPeers*3/4 {
			return
		}
		delete(g.peers, p)
	}
}

// Score is what a peer's excess takes from its score.
func (g *Guard) Score(p peer.ID) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.peers[p]; a != nil {
		return -a.excess
	}
	return 0
}

var errTooMuch = errors.New("the peer sends too much")

// Inspect is asked about each packet of a peer before anything is done with it.
func (g *Guard) Inspect(from peer.ID, rpc *pubsub.RPC) error {
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
	if !g.Charge(from, cost) {
		return errTooMuch
	}
	return nil
}

// Charge counts what a peer sent, reports whether it may send that, and has one that floods be disconnected.
func (g *Guard) Charge(from peer.ID, cost int) bool {
	ok, flooded := g.take(from, float64(cost), time.Now())
	if flooded {
		g.o.Log.Warn("a peer floods; it is disconnected", "peer", from, "for", banned)
		select {
		case g.flooders <- from:
		default: // it is not listened to all the same
		}
	}
	return ok
}

// Run disconnects peers that flood, until ctx is done.
func (g *Guard) Run(ctx context.Context) {
	for {
		select {
		case p := <-g.flooders:
			if err := g.o.Network.ClosePeer(p); err != nil {
				g.o.Log.Debug("cannot disconnect a peer", "peer", p, "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
