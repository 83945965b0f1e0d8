package p2p

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/x/rate"
)

const (
	// DefaultMaxConns is how many connections there are, whoever began them. A third of that at most are of those who
	// were not let in yet; from half of it on those of peers that are not configured are closed.
	DefaultMaxConns = 384
	// DefaultMaxStreams is how many streams there are over all connections.
	DefaultMaxStreams = 8192
	// DefaultMaxPeerStreams is how many streams there are with one peer.
	DefaultMaxPeerStreams = 512
	// DefaultMaxMemory is what buffers of connections and streams take, in bytes.
	DefaultMaxMemory = 256 << 20
	// DefaultMaxPeerMemory is what those of one peer take.
	DefaultMaxPeerMemory = 64 << 20

	// maxPeerConns are needed when two hosts connect to each other at the same time.
	maxPeerConns = 8
	// maxIPConns is for hosts behind one address.
	maxIPConns = 64
	// ipBurst and ipRate are how many connections an address may begin, at once and then in a second. All hosts behind it
	// come back at once when it was away.
	ipBurst = 2 * maxIPConns
	ipRate  = 5
)

// Limits bound what peers take of this host. The zero value has the defaults.
type Limits struct {
	MaxConns, MaxStreams, MaxPeerStreams int
	MaxMemory, MaxPeerMemory             int64
}

func (l Limits) withDefaults() Limits {
	return Limits{
		MaxConns:       cmp.Or(l.MaxConns, DefaultMaxConns),
		MaxStreams:     cmp.Or(l.MaxStreams, DefaultMaxStreams),
		MaxPeerStreams: cmp.Or(l.MaxPeerStreams, DefaultMaxPeerStreams),
		MaxMemory:      cmp.Or(l.MaxMemory, DefaultMaxMemory),
		MaxPeerMemory:  cmp.Or(l.MaxPeerMemory, DefaultMaxPeerMemory),
	}
}

// resources refuses what is above the limits. What they do not name is bounded by libp2p's own numbers for a machine
// with little memory, whatever this one has.
func (l Limits) resources() (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	conns, waiting := rcmgr.LimitVal(l.MaxConns), rcmgr.LimitVal(l.MaxConns/3)
	streams, ofPeer := rcmgr.LimitVal(l.MaxStreams), rcmgr.LimitVal(l.MaxPeerStreams)
	all := rcmgr.LimitVal64(l.MaxMemory)
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, FD: conns,
			Streams: streams, StreamsInbound: streams, StreamsOutbound: streams, Memory: all,
		},
		Transient: rcmgr.ResourceLimits{Conns: waiting, ConnsInbound: waiting, ConnsOutbound: waiting, FD: waiting},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: maxPeerConns, ConnsInbound: maxPeerConns, ConnsOutbound: maxPeerConns, FD: maxPeerConns,
			Streams: ofPeer, StreamsInbound: ofPeer, StreamsOutbound: ofPeer, Memory: rcmgr.LimitVal64(l.MaxPeerMemory),
		},
		ServiceDefault:  rcmgr.ResourceLimits{Streams: streams, StreamsInbound: streams, StreamsOutbound: streams, Memory: all},
		ProtocolDefault: rcmgr.ResourceLimits{Streams: streams, StreamsInbound: streams, StreamsOutbound: streams, Memory: all},
	}.Build(scaling.Scale(0, 0))
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxIPConns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: maxIPConns}}),
		rcmgr.WithConnRateLimiters(beginnings()),
		rcmgr.WithMetricsDisabled())
}

// beginnings bounds how often connections begin. That of libp2p's own has room for 16 hosts behind one address.
func beginnings() *rate.Limiter {
	limit := rate.Limit{RPS: ipRate, Burst: ipBurst}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: limit}},
			GracePeriod:      time.Minute,
		},
	}
}

// connections closes connections before there are as many as may be.
func (l Limits) connections() (*connmgr.BasicConnMgr, error) {
	return connmgr.NewConnManager(l.few(), l.MaxConns/2)
}

// few is how many connections there are when peers that nobody configured are still connected to.
func (l Limits) few() int { return l.MaxConns * 5 / 12 }
