package p2p

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestHostsOfOneSwarmConnect(t *testing.T) {
	for _, c := range []struct {
		name    string
		private bool
	}{{"private", true}, {"open", false}} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Version: "1.2.3"}
			if c.private {
				o.SwarmKey = newSwarmKey(t)
			}
			a := newHost(t, o)
			o.Peers = []peer.AddrInfo{infoOf(a)}
			b := newHost(t, o)
			eventually(t, "both know each other", func() bool {
				return peerOf(a, b).Latency > 0 && peerOf(b, a).Latency > 0 && peerOf(a, b).Agent != ""
			})
			got, seen := peerOf(b, a), peerOf(a, b)
			if !got.Configured || got.Direction != Outbound || got.Agent != "volary/1.2.3" || got.Err != nil || len(got.Addrs) == 0 {
				t.Errorf("the peer is %+v", got)
			}
			if seen.Configured || seen.Direction != Inbound {
				t.Errorf("it is seen as %+v", seen)
			}
			eventually(t, "bytes are counted", func() bool {
				in, out := a.Traffic()
				return in > 0 && out > 0
			})
		})
	}
}

func TestNobodyWithAnotherSwarmKeyIsConnected(t *testing.T) {
	a := newHost(t, Options{SwarmKey: newSwarmKey(t)})
	for name, o := range map[string]Options{"another key": {SwarmKey: newSwarmKey(t)}, "no key": {}} {
		o.Peers = []peer.AddrInfo{infoOf(a)}
		b := newHost(t, o)
		eventually(t, name+": the reason is known", func() bool { return peerOf(b, a).Err != nil })
		text := peerOf(b, a).Err.Error()
		if strings.Contains(text, "\n") || !strings.Contains(text, a.libp2p.ID().String()) {
			t.Errorf("%s: the reason is %q", name, text)
		}
		if o.SwarmKey != nil && !strings.Contains(text, "swarm key") {
			t.Errorf("%s: the reason says nothing of the key: %q", name, text)
		}
		if connectedTo(a, b) || connectedTo(b, a) {
			t.Errorf("%s: they are connected", name)
		}
	}
}

func TestWhoDoesNotAnswerMayHaveAnotherSwarmKey(t *testing.T) {
	err := (&Host{private: true}).reason("p", fmt.Errorf("dial: %w", context.DeadlineExceeded))
	if text := err.Error(); !strings.Contains(text, "no answer in time") || !strings.Contains(text, "swarm key") {
		t.Errorf("the reason is %q", text)
	}
}

func TestAReasonIsOneLineThatNamesTheAddress(t *testing.T) {
	key := newSwarmKey(t)
	gone := newHost(t, Options{SwarmKey: key})
	other := newHost(t, Options{SwarmKey: key})
	info := infoOf(gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, Options{SwarmKey: key, Peers: []peer.AddrInfo{info, {ID: newHost(t, Options{}).libp2p.ID(), Addrs: other.libp2p.Addrs()}}})
	eventually(t, "both reasons are known", func() bool {
		for _, p := range h.Peers() {
			if p.Configured && p.Err == nil {
				return false
			}
		}
		return true
	})
	for _, p := range h.Peers() {
		if !p.Configured {
			continue
		}
		want := "connection refused"
		if p.ID != info.ID {
			want = "another host answers there, " + other.libp2p.ID().String()
		}
		if text := p.Err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, want) || !strings.Contains(text, "/ip4/127.0.0.1/tcp/") {
			t.Errorf("the reason is %q, want %q", text, want)
		}
	}
}

func TestAConfiguredPeerIsConnectedAgain(t *testing.T) {
	key, identity := newSwarmKey(t), newIdentity(t)
	first, err := New(t.Context(), Options{SwarmKey: key, Identity: identity, Listen: loopback(t, true)})
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, Options{SwarmKey: key, Peers: []peer.AddrInfo{infoOf(first)}})
	eventually(t, "it is connected", func() bool { return connectedTo(h, first) })
	where := first.libp2p.Addrs()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not connected", func() bool { return !connectedTo(h, first) })
	second := newHost(t, Options{SwarmKey: key, Identity: identity, Listen: where})
	eventually(t, "it is connected again", func() bool { return connectedTo(h, second) && connectedTo(second, h) })
}

func TestAnAddressThatIsTakenIsAnError(t *testing.T) {
	a := newHost(t, Options{})
	if len(a.libp2p.Addrs()) != 2 {
		t.Fatalf("it listens on %v", a.libp2p.Addrs())
	}
	for _, addr := range a.libp2p.Addrs() {
		_, err := New(t.Context(), Options{Identity: newIdentity(t), Listen: []ma.Multiaddr{addr}})
		if err == nil || !strings.Contains(err.Error(), addr.String()) {
			t.Errorf("%s: the error is %v", addr, err)
		}
	}
}

func TestAHostThatDoesNotListenConnects(t *testing.T) {
	key := newSwarmKey(t)
	a := newHost(t, Options{SwarmKey: key})
	b := newHost(t, Options{SwarmKey: key, Listen: []ma.Multiaddr{}, Peers: []peer.AddrInfo{infoOf(a)}})
	eventually(t, "they are connected", func() bool { return connectedTo(a, b) && connectedTo(b, a) })
	if addrs := b.libp2p.Network().ListenAddresses(); len(addrs) > 0 {
		t.Errorf("it listens on %v", addrs)
	}
}

// What reaches out to others, or tells them of this machine, stays off.
func TestAHostHasNoProtocolsForStrangers(t *testing.T) {
	h := newHost(t, Options{})
	for _, p := range h.libp2p.Mux().Protocols() {
		for _, word := range []string{"relay", "autonat", "kad", "holepunch", "dcutr"} {
			if strings.Contains(string(p), word) {
				t.Errorf("it speaks %s", p)
			}
		}
	}
	if n := h.libp2p.Network().Connectedness(h.libp2p.ID()); n == network.Connected {
		t.Error("it is connected to itself")
	}
}
