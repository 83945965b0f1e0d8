package p2p

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	dialTime     = 15 * time.Second // that one attempt may take
	firstBackoff = time.Second
	mostBackoff  = 15 * time.Second // of configured peers
	goodBackoff  = time.Minute      // of others that were connected
	restBackoff  = 10 * time.Minute // of those that never were
	dialsAtOnce  = 8
	protectedBy  = "configured" // the connection manager's reason to keep a connection
)

// target is a peer to be connected to.
type target struct {
	info       peer.AddrInfo
	configured bool
	record     addresses // what it has signed of itself; zero if that is not known
	good       bool      // it was connected

	trying bool
	fails  int       // in a row
	next   time.Time // attempt
	err    error     // of the last one
}

// aim makes targets of the configured peers.
func (h *Host) aim() {
	for _, p := range h.o.Peers {
		if p.ID == h.libp2p.ID() {
			continue
		}
		t := h.targets[p.ID]
		if t == nil {
			t = &target{info: peer.AddrInfo{ID: p.ID}, configured: true}
			h.targets[p.ID] = t
			h.libp2p.ConnManager().Protect(p.ID, protectedBy)
		}
		t.info.Addrs = append(t.info.Addrs, p.Addrs...)
	}
}

// where is where the peer is looked for.
func (t *target) where() peer.AddrInfo {
	return peer.AddrInfo{ID: t.info.ID, Addrs: ma.Unique(slices.Concat(t.info.Addrs, t.record.addrs))}
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	return slices.EqualFunc(a, b, func(x, y ma.Multiaddr) bool { return x.Equal(y) })
}

// nudge has keep look again.
func (h *Host) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// keep connects to all targets, again and again.
func (h *Host) keep(ctx context.Context) {
	for {
		due, wait := h.due(time.Now())
		for _, t := range due {
			h.begin(func() { h.try(ctx, t) })
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-h.wake:
			timer.Stop()
		}
	}
}

// due marks the targets to be tried now, and says when to look again unless something happens.
func (h *Host) due(now time.Time) (due []*target, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait = restBackoff
	under := 0
	for _, t := range h.targets {
		if t.trying {
			under++
		}
	}
	few := h.o.Limits.withDefaults().few()
	// However many others there are that do not answer, configured ones are tried first.
	for _, configured := range []bool{true, false} {
		for id, t := range h.targets {
			if _, is := h.live[id]; is || t.trying || t.configured != configured || !configured && len(h.live)+under >= few {
				continue
			}
			if left := t.next.Sub(now); left > 0 {
				wait = min(wait, left)
				continue
			}
			// Who ends an attempt nudges.
			if under < dialsAtOnce {
				t.trying = true
				under++
				due = append(due, t)
			}
		}
	}
	return due, wait
}

// try connects to a target once.
func (h *Host) try(ctx context.Context, t *target) {
	limited, done := context.WithTimeout(ctx, dialTime)
	defer done()
	h.mu.Lock()
	where := t.where()
	h.mu.Unlock()
	h.swarm.Backoff().Clear(t.info.ID) // the waits are this package's own
	err := h.libp2p.Connect(network.WithForceDirectDial(limited, "keep"), where)
	h.mu.Lock()
	t.trying = false
	first := err != nil && t.fails == 0
	if err == nil {
		t.fails, t.err = 0, nil
		t.next = time.Now().Add(t.backoff()) // it may be gone again by now
	} else {
		err = h.reason(t.info.ID, err)
		t.err = err
		t.next = time.Now().Add(t.backoff())
		t.fails++
	}
	h.mu.Unlock()
	if first && t.configured && ctx.Err() == nil {
		h.log.Warn("cannot connect, and tries again", logPeer, t.info.ID, logError, err)
	}
	h.nudge()
}

func (t *target) backoff() time.Duration {
	most := restBackoff
	switch {
	case t.configured:
		most = mostBackoff
	case t.good:
		most = goodBackoff
	}
	return jitter(min(most, firstBackoff<<min(t.fails, 12)))
}

// jitter is between half of d and one and a half of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
