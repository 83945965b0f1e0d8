package p2p

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/volary/volary/namespace"
)

// patience is for what happens at once on a machine that has nothing else to do.
const patience = 30 * time.Second

func newIdentity(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSwarmKey(t testing.TB) *namespace.SwarmKey {
	t.Helper()
	ns, err := namespace.Open(namespace.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	key, private, err := ns.SwarmKey(namespace.Swarm{Mode: namespace.SwarmDerived})
	if err != nil || !private {
		t.Fatalf("no swarm key: %v", err)
	}
	return &key
}

// loopback is where test hosts listen.
func loopback(t testing.TB, private bool) []ma.Multiaddr {
	t.Helper()
	addrs, err := ParseListen("127.0.0.1:0", private)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// newHost makes a host that listens on loopback, unless o says where.
func newHost(t testing.TB, o Options) *Host {
	t.Helper()
	if o.Identity == nil {
		o.Identity = newIdentity(t)
	}
	if o.Listen == nil {
		o.Listen = loopback(t, o.SwarmKey != nil)
	}
	h, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func infoOf(h *Host) peer.AddrInfo {
	return peer.AddrInfo{ID: h.libp2p.ID(), Addrs: h.libp2p.Addrs()}
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not so after %s: %s", patience, what)
		}
	}
}

// peerOf is what h knows of another, or the zero value.
func peerOf(h, other *Host) Peer {
	for _, p := range h.Peers() {
		if p.ID == other.libp2p.ID() {
			return p
		}
	}
	return Peer{}
}

func connectedTo(h, other *Host) bool { return !peerOf(h, other).Connected.IsZero() }
