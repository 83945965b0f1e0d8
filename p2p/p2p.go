// Package p2p is the network of a namespace's hosts: a libp2p host in a swarm of their own, which stays connected.
//
// Start with [New]. A [Host] connects to the peers that it was told of, and again when a connection ends, for as long as
// it lives; they tell it of further ones. What hosts say to each other is in other packages, over [Host.Libp2p].
//
// It guarantees: under a swarm key, who has another one or none is never connected; nobody outside of the swarm is
// asked for anything, as there is no NAT mapping, relay, DHT, mDNS or bootstrap; connections, streams and their memory
// are bounded, and so is what is remembered of peers; an address is only spread if the peer has signed it itself.
package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/volary/volary/namespace"
)

// Options say what a host is. Identity is needed.
type Options struct {
	Identity crypto.PrivKey
	SwarmKey *namespace.SwarmKey // nil: whoever connects is let in
	Listen   []ma.Multiaddr      // none: it only connects to others
	Peers    []peer.AddrInfo     // kept connected; the host's own is passed over
	Known    string              // file for addresses of peers that were connected; empty: forgotten at the end
	Version  string              // of the program, told to peers
	Limits   Limits
	Logger   *slog.Logger // nil discards
}

// Keys of log records.
const (
	logPeer  = "peer"
	logError = "error"
)

// Host is this host in the network. It must be made by New, and is safe for concurrent use.
type Host struct {
	o       Options
	log     *slog.Logger
	libp2p  host.Host
	swarm   *swarm.Swarm
	private bool
	traffic *metrics.BandwidthCounter

	tls *libp2ptls.Transport // of lanes

	alive  context.Context // until Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // has an element when there may be something to do
	dirty  chan struct{} // has an element when what is known of peers has changed

	mu      sync.Mutex
	closed  bool // nothing more begins in the background
	targets map[peer.ID]*target
	live    map[peer.ID]live
	meeting map[peer.ID]bool // those who have begun one
	lanes   map[*lane]struct{}
	offers  map[peer.ID]int // lanes that peers have opened, or are about to
}

// New makes a host that listens, and connects to its peers in the background, until Close. An address that it cannot
// listen on is an error. ctx bounds the making.
func New(ctx context.Context, o Options) (*Host, error) {
	if o.Identity == nil {
		return nil, errors.New("make a libp2p host: it has no identity")
	}
	h := &Host{
		o: o, log: o.Logger, private: o.SwarmKey != nil, traffic: metrics.NewBandwidthCounter(),
		wake: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		targets: map[peer.ID]*target{}, live: map[peer.ID]live{}, meeting: map[peer.ID]bool{},
		lanes: map[*lane]struct{}{}, offers: map[peer.ID]int{},
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var err error
	if h.tls, err = libp2ptls.New(libp2ptls.ID, o.Identity, nil); err != nil {
		return nil, fmt.Errorf("make a libp2p host: %w", err)
	}
	if h.libp2p, err = h.newLibp2p(); err != nil {
		return nil, fmt.Errorf("make a libp2p host: %w", err)
	}
	ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	h.alive = ctx
	h.swarm = h.libp2p.Network().(*swarm.Swarm)
	h.aim()
	h.recall()
	h.libp2p.SetStreamHandler(meetProtocol, func(s network.Stream) { h.serveMeet(ctx, s) })
	h.libp2p.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { h.connected(ctx, c) },
		DisconnectedF: h.disconnected,
	})
	for _, a := range o.Listen {
		if err := h.libp2p.Network().Listen(a); err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", a, err), h.Close())
		}
	}
	h.begin(func() { h.keep(ctx) })
	h.begin(func() { h.measure(ctx) })
	h.begin(func() { h.meetAgain(ctx) })
	if o.Known != "" {
		h.begin(func() { h.remember(ctx) })
	}
	return h, nil
}

// newLibp2p makes a host that does not listen yet.
func (h *Host) newLibp2p() (host.Host, error) {
	limits := h.o.Limits.withDefaults()
	resources, err := limits.resources()
	if err != nil {
		return nil, err
	}
	conns, err := limits.connections()
	if err != nil {
		return nil, err
	}
	options := []libp2p.Option{
		libp2p.Identity(h.o.Identity),
		libp2p.UserAgent("volary/" + h.o.Version),
		// With it, two programs would listen on one port, and each have some of the connections.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(conns),
		libp2p.BandwidthReporter(h.traffic),
		libp2p.AddrsFactory(withoutLoopback),
		libp2p.WithDialTimeout(dialTime),
		libp2p.NoListenAddrs,
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		// Whether others can reach it is nobody's to find out: nothing is asked of peers for that.
		libp2p.ForceReachabilityPublic(),
	}
	if h.private {
		options = append(options, libp2p.PrivateNetwork(pnet.PSK(h.o.SwarmKey[:])))
	} else {
		options = append(options, libp2p.Transport(quic.NewTransport))
	}
	made, err := libp2p.New(options...)
	if err != nil {
		return nil, errors.Join(err, resources.Close(), conns.Close())
	}
	return made, nil
}

// Libp2p is the host for what others say over it. Whoever uses it ends before Close.
func (h *Host) Libp2p() host.Host { return h.libp2p }

// Addrs are where others reach this host, with its ID; none if it does not listen.
func (h *Host) Addrs() ([]ma.Multiaddr, error) {
	addrs := h.libp2p.Addrs()
	if len(addrs) == 0 {
		return nil, nil
	}
	return peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.libp2p.ID(), Addrs: addrs})
}

// Traffic is how many bytes came and went over streams and lanes since the host was made.
func (h *Host) Traffic() (in, out int64) {
	s := h.traffic.GetBandwidthTotals()
	return s.TotalIn, s.TotalOut
}

// Close ends all connections, and returns when nothing of the host goes on.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	lanes := h.lanesOf("")
	h.mu.Unlock()
	h.cancel()
	for _, l := range lanes {
		l.Close()
	}
	h.work.Wait()
	return h.libp2p.Close()
}

// begin has f run in the background, unless the host is being closed.
func (h *Host) begin(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.work.Go(f)
	}
}

// live is what is known of a connected peer.
type live struct {
	since     time.Time
	direction network.Direction
}

func (h *Host) connected(ctx context.Context, c network.Conn) {
	p := c.RemotePeer()
	h.mu.Lock()
	if _, is := h.live[p]; !is {
		h.live[p] = live{since: time.Now(), direction: c.Stat().Direction}
	}
	if t := h.targets[p]; t != nil {
		t.fails, t.err = 0, nil
		if t.record.raw != nil && !t.good {
			t.good = true
			h.changed()
		}
	}
	h.mu.Unlock()
	h.begin(func() { h.ping(ctx, p) })
	if c.Stat().Direction == network.DirOutbound {
		h.begin(func() { h.meet(ctx, p) })
	}
}

func (h *Host) disconnected(n network.Network, c network.Conn) {
	left, lanes := h.left(n, c.RemotePeer())
	if !left {
		return
	}
	h.nudge()
	for _, l := range lanes {
		l.Close()
	}
}

// left reports whether a peer of which a connection ended has no other one, and the lanes that end with it. That is
// asked under mu: of one that comes meanwhile connected takes note afterwards.
func (h *Host) left(n network.Network, p peer.ID) (bool, []*lane) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n.Connectedness(p) == network.Connected {
		return false, nil
	}
	delete(h.live, p)
	if t := h.targets[p]; t != nil {
		t.next = time.Now().Add(jitter(firstBackoff))
	}
	return true, h.lanesOf(p)
}
