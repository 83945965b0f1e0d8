package p2p

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	pingEvery   = 20 * time.Second
	pingTime    = 10 * time.Second
	pingsAtOnce = 16
	idleMeters  = 10 * time.Minute // after which the bytes of a peer are not counted apart any more

	maxShownAddrs = 16
	maxAgent      = 128
)

// Direction says who began a connection.
type Direction string

const (
	Inbound  Direction = "in"
	Outbound Direction = "out"
)

// Peer is what this host knows of another.
type Peer struct {
	ID         peer.ID
	Addrs      []ma.Multiaddr // of its connections, or else where it is looked for
	Configured bool
	Connected  time.Time     // since when; zero if it is not
	Direction  Direction     // of the connection
	Latency    time.Duration // moving average of round trips; 0 if not known
	Agent      string        // the program it says it is
	Err        error         // why it could not be connected to when that was last tried
}

// Peers are those that are connected and those that are to be, in order of their IDs.
func (h *Host) Peers() []Peer {
	h.mu.Lock()
	all := map[peer.ID]*Peer{}
	for id, l := range h.live {
		d := Outbound
		if l.direction == network.DirInbound {
			d = Inbound
		}
		all[id] = &Peer{ID: id, Connected: l.since, Direction: d}
	}
	for id, t := range h.targets {
		p := all[id]
		if p == nil {
			p = &Peer{ID: id, Addrs: t.where().Addrs, Err: t.err}
			all[id] = p
		}
		p.Configured = t.configured
	}
	h.mu.Unlock()
	out := make([]Peer, 0, len(all))
	for _, p := range all {
		if !p.Connected.IsZero() {
			h.describe(p)
		}
		p.Addrs = p.Addrs[:min(len(p.Addrs), maxShownAddrs)]
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// describe adds what libp2p knows of a connected peer.
func (h *Host) describe(p *Peer) {
	for _, c := range h.libp2p.Network().ConnsToPeer(p.ID) {
		p.Addrs = append(p.Addrs, c.RemoteMultiaddr())
	}
	p.Latency = h.libp2p.Peerstore().LatencyEWMA(p.ID)
	if agent, err := h.libp2p.Peerstore().Get(p.ID, "AgentVersion"); err == nil {
		text, _ := agent.(string)
		p.Agent = printable(text[:min(len(text), maxAgent)])
	}
}

// printable is a peer's text as people's terminals may see it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}

// measure pings connected peers now and then.
func (h *Host) measure(ctx context.Context) {
	slots := make(chan struct{}, pingsAtOnce)
	for {
		timer := time.NewTimer(jitter(pingEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		for _, p := range h.libp2p.Network().Peers() {
			slots <- struct{}{}
			h.work.Go(func() {
				defer func() { <-slots }()
				h.ping(ctx, p)
			})
		}
		h.traffic.TrimIdle(time.Now().Add(-idleMeters))
	}
}

// ping has libp2p take note of one round trip.
func (h *Host) ping(ctx context.Context, p peer.ID) {
	ctx, done := context.WithTimeout(network.WithNoDial(ctx, "ping"), pingTime)
	defer done()
	<-ping.Ping(ctx, h.libp2p, p)
}

// withoutLoopback leaves out addresses that lead other machines to themselves, unless there are no others.
func withoutLoopback(addrs []ma.Multiaddr) []ma.Multiaddr {
	var far []ma.Multiaddr
	for _, a := range addrs {
		if !manet.IsIPLoopback(a) {
			far = append(far, a)
		}
	}
	if len(far) == 0 {
		return addrs
	}
	return far
}
