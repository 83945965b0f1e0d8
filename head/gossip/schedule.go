package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// DefaultEvery is the time between two exchanges with a peer taken by chance.
	DefaultEvery = 3 * time.Minute

	// Who connected asks within soon, who was connected to within later unless it was asked by then.
	soon  = 200 * time.Millisecond
	later = 8 * time.Second
	// again is how long it takes at least to ask a peer that was busy, or with whom it failed; the latter takes twice as
	// long with each time, and is left to chance after mostTries.
	again     = time.Second
	mostTries = 6
	// tooLate is how long it takes to make up for messages that there was no time for.
	tooLate = time.Second
	// mostPeers bounds the memory for peers, also those that are not connected any more.
	mostPeers = 4096
)

// turns say when to exchange all with whom. Only the goroutine in keepUp uses them.
type turns struct {
	due    map[peer.ID]time.Time
	done   map[peer.ID]time.Time // when the last exchange with whom began that went well
	since  map[peer.ID]time.Time // that they are told all that is new, by what is told on the topic
	failed map[peer.ID]int       // how many times in a row
	next   time.Time             // with any peer
	every  time.Duration
}

func upTo(d time.Duration) time.Duration { return rand.N(d) }

// keepUp exchanges all with peers that connect, and now and then with any, until ctx is done.
func (g *Gossip) keepUp(ctx context.Context, events event.Subscription) {
	defer events.Close()
	t := turns{due: map[peer.ID]time.Time{}, done: map[peer.ID]time.Time{}, since: map[peer.ID]time.Time{}, failed: map[peer.ID]int{}, every: g.o.Every}
	t.next = time.Now().Add(t.every/2 + upTo(t.every))
	for _, p := range g.h.Network().Peers() {
		g.connected(&t, p)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var running chan outcome // nil: no exchange that this host began goes on
	for {
		due := timer.C
		if running != nil {
			due = nil
		}
		timer.Reset(time.Until(t.first()))
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events.Out():
			if !ok {
				return
			}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				g.connected(&t, e.Peer)
			case event.EvtPeerProtocolsUpdated:
				g.connected(&t, e.Peer)
			}
		case o := <-g.met:
			t.did(o, time.Now())
		case e := <-g.onTopic:
			if e.Type == pubsub.PeerJoin {
				t.join(e.Peer, time.Now())
			} else {
				delete(t.since, e.Peer)
			}
		case <-g.missed.more:
			for p := range g.missed.take() {
				t.soon(p, time.Now())
			}
		case o := <-running:
			running = nil
			g.ended(&t, o)
		case <-due:
			if p, ok := g.turn(&t, time.Now()); ok {
				running = g.begin(ctx, p)
			}
		}
	}
}

// connected has a peer's turn come, if it speaks the protocol and all was not exchanged since it connected.
func (g *Gossip) connected(t *turns, p peer.ID) {
	spoken, err := g.h.Peerstore().SupportsProtocols(p, exchangeProtocol)
	conns := g.h.Network().ConnsToPeer(p)
	if err != nil || len(spoken) == 0 || len(conns) == 0 {
		return
	}
	now := time.Now()
	if _, waiting := t.due[p]; waiting || t.done[p].After(conns[0].Stat().Opened) {
		return
	}
	if conns[0].Stat().Direction == network.DirOutbound {
		t.due[p] = now.Add(upTo(soon))
	} else {
		t.due[p] = now.Add(later/2 + upTo(later/2))
	}
}

// first is when the next turn comes.
func (t *turns) first() time.Time {
	first := t.next
	for _, at := range t.due {
		if at.Before(first) {
			first = at
		}
	}
	return first
}

// did records that all was exchanged with a peer. Its turn comes again for what this host's index lacked, and for what the
// peer was not told since then.
func (t *turns) did(o outcome, now time.Time) {
	delete(t.due, o.p)
	delete(t.failed, o.p)
	if len(t.done) >= mostPeers {
		clear(t.done)
	}
	t.done[o.p] = o.began
	switch {
	case o.lacks.After(now):
		t.due[o.p] = o.lacks.Add(upTo(soon))
	case !o.lacks.IsZero(), t.since[o.p].After(o.began):
		t.due[o.p] = now.Add(upTo(soon))
	}
}

// join records that a peer is on the topic. Where all was exchanged with it before, what is known now may be more.
func (t *turns) join(p peer.ID, now time.Time) {
	t.toldSince(p, now)
	if _, waiting := t.due[p]; !waiting && !t.done[p].IsZero() {
		t.due[p] = now.Add(upTo(soon))
	}
}

func (t *turns) toldSince(p peer.ID, now time.Time) {
	if len(t.since) >= mostPeers {
		clear(t.since)
	}
	t.since[p] = now
}

// tryAgain has the turn of a peer with whom it failed come again.
func (t *turns) tryAgain(p peer.ID, now time.Time) {
	if len(t.failed) >= mostPeers {
		clear(t.failed)
	}
	if n := t.failed[p]; n < mostTries {
		t.failed[p] = n + 1
		t.due[p] = now.Add((again + upTo(again)) << n)
	}
}

// turn returns the peer whose turn it is.
func (g *Gossip) turn(t *turns, now time.Time) (p peer.ID, ok bool) {
	for q, at := range t.due {
		if !at.After(now) && (!ok || at.Before(t.due[p])) {
			p, ok = q, true
		}
	}
	if ok {
		delete(t.due, p)
		return p, g.h.Network().Connectedness(p) == network.Connected
	}
	if t.next.After(now) {
		return "", false
	}
	t.next = now.Add(t.every/2 + upTo(t.every))
	peers := slices.DeleteFunc(g.h.Network().Peers(), func(p peer.ID) bool {
		spoken, err := g.h.Peerstore().SupportsProtocols(p, exchangeProtocol)
		return err != nil || len(spoken) == 0
	})
	if len(peers) == 0 {
		return "", false
	}
	return peers[rand.IntN(len(peers))], true
}

// soon has a peer's turn, or that of any if it is empty, come in a moment.
func (t *turns) soon(p peer.ID, now time.Time) {
	at := now.Add(tooLate)
	if p == "" {
		if at.Before(t.next) {
			t.next = at
		}
		return
	}
	t.toldSince(p, now) // also if an exchange with it goes on
	if t.failed[p] > 0 {
		return // with it, its turn comes by tryAgain, or by chance
	}
	if was, ok := t.due[p]; !ok || at.Before(was) {
		t.due[p] = at
	}
}

// outcome is what came of an exchange.
type outcome struct {
	p           peer.ID
	began       time.Time
	lacks       time.Time // until when the index of this host lacks what it knew; zero if it lacks nothing
	heard, told int       // how much was new here, and how much was told
	err         error
}

// begin exchanges all with a peer while events are heard.
func (g *Gossip) begin(ctx context.Context, p peer.ID) chan outcome {
	ended := make(chan outcome, 1)
	g.stillAsking()
	g.work.Go(func() {
		o := outcome{p: p, began: time.Now()}
		o.err = g.exchange(ctx, &o)
		g.asking.Store(nil) // before the next one begins
		ended <- o
	})
	return ended
}

// stillAsking records that this host asks another one, or was just told what is new.
func (g *Gossip) stillAsking() {
	now := time.Now()
	g.asking.Store(&now)
}

func (g *Gossip) ended(t *turns, o outcome) {
	now := time.Now()
	switch {
	case errors.Is(o.err, errBusy):
		t.due[o.p] = now.Add(again + upTo(2*again))
		return
	case o.err == nil:
		t.did(o, now)
	case !errors.Is(o.err, errNamespace):
		t.tryAgain(o.p, now)
	}
	g.note(o)
}

// exchanged takes note of what came of a peer that asked.
func (g *Gossip) exchanged(ctx context.Context, o outcome) {
	g.note(o)
	if o.err != nil {
		return
	}
	select {
	case g.met <- o:
	case <-ctx.Done():
	}
}

func (g *Gossip) note(o outcome) {
	switch {
	case o.err != nil:
		g.log.Debug("heads were not exchanged with a peer", "peer", o.p, "error", o.err)
	case o.heard > 0 || o.told > 0:
		g.log.Debug("heads were exchanged with a peer", "peer", o.p, "heard", o.heard, "told", o.told)
	}
}
