package p2p

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestHostsThatKnowOneOfThemKnowAll(t *testing.T) {
	key := newSwarmKey(t)
	first := newHost(t, Options{SwarmKey: key})
	all := []*Host{first}
	for range 4 {
		all = append(all, newHost(t, Options{SwarmKey: key, Peers: []peer.AddrInfo{infoOf(first)}}))
	}
	for _, a := range all {
		for _, b := range all {
			if a != b {
				eventually(t, "everybody is connected to everybody", func() bool { return connectedTo(a, b) })
			}
		}
	}
	if p := peerOf(all[1], all[2]); p.Configured {
		t.Errorf("the peer is %+v", p)
	}
}

// knows reports whether h is connected to another, and has its record.
func knows(h, other *Host) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.targets[other.libp2p.ID()]
	return t != nil && t.good && t.record.raw != nil
}

func TestARestartedHostNeedsNoConfiguredPeer(t *testing.T) {
	key, file := newSwarmKey(t), filepath.Join(t.TempDir(), "peers")
	first := newHost(t, Options{SwarmKey: key})
	other := newHost(t, Options{SwarmKey: key, Peers: []peer.AddrInfo{infoOf(first)}})
	// Nobody can be told of the next one, which does not listen: it is told itself, if there is something to tell.
	eventually(t, "the first can tell of the other", func() bool { return knows(first, other) })
	before, err := New(t.Context(), Options{Identity: newIdentity(t), SwarmKey: key, Known: file, Peers: []peer.AddrInfo{infoOf(first)}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are connected", func() bool { return connectedTo(before, other) && connectedTo(before, first) })
	// Those who begin a connection tell of themselves first, and are remembered once they are connected.
	eventually(t, "it is remembered", func() bool { return knows(before, other) })
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	after := newHost(t, Options{SwarmKey: key, Known: file})
	eventually(t, "it finds the other", func() bool { return connectedTo(after, other) })
}

func TestAFileOfKnownPeersThatIsDamagedIsReplaced(t *testing.T) {
	key, file := newSwarmKey(t), filepath.Join(t.TempDir(), "peers")
	if err := os.WriteFile(file, []byte(knownHeader+"\x05"+strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	first := newHost(t, Options{SwarmKey: key})
	h, err := New(t.Context(), Options{Identity: newIdentity(t), SwarmKey: key, Known: file, Peers: []peer.AddrInfo{infoOf(first)}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it knows the other", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.targets[first.libp2p.ID()].good
	})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := readKnown(file); err != nil || len(all) != 1 || all[0].id != first.libp2p.ID() {
		t.Errorf("%v, %v", all, err)
	}
}

func TestWhatAPeerCannotProveIsNotLearned(t *testing.T) {
	key := newSwarmKey(t)
	h := newHost(t, Options{SwarmKey: key})
	liar := newHost(t, Options{SwarmKey: key})
	if err := liar.libp2p.Connect(t.Context(), infoOf(h)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they have met", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.targets[liar.libp2p.ID()] != nil && len(h.meeting) == 0
	})
	own, err := sign(liar.o.Identity, peer.TimestampSeq(), liar.libp2p.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	victim := signed(t, 9, 5, "/ip4/10.0.0.9/tcp/4001")
	moved := victim
	moved.raw = append([]byte{}, victim.raw...)
	moved.raw[len(moved.raw)-1] ^= 1
	const honest = "what is true"
	for name, said := range map[string][]byte{
		"another's record first": encodeRecords([]addresses{victim}),
		"a forged record":        encodeRecords([]addresses{own, moved}),
		"too many":               encodeRecords(make([]addresses, maxTold+2)),
		"an endless record":      append([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 1<<20)...),
		"nothing":                {},
		honest:                   encodeRecords([]addresses{own}),
	} {
		s, err := liar.libp2p.NewStream(network.WithNoDial(t.Context(), "lie"), h.libp2p.ID(), meetProtocol)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(said)
		s.CloseWrite()
		// The answer is the end of the stream: nobody who lies is told of others.
		if _, err := s.Read(make([]byte, 1)); (err == nil) != (name == honest) {
			t.Errorf("%s: it is answered, or not, with %v", name, err)
		}
		s.Reset()
		eventually(t, "the meeting is over", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.meeting) == 0
		})
	}
	for _, p := range h.Peers() {
		if p.ID == victim.id {
			t.Errorf("it knows %+v", p)
		}
	}
}

func TestTheLatestRecordOfAPeerCounts(t *testing.T) {
	h := newHost(t, Options{SwarmKey: newSwarmKey(t)})
	old, late := signed(t, 9, 5, "/ip4/127.0.0.1/tcp/1"), signed(t, 9, 6, "/ip4/127.0.0.1/tcp/2")
	for _, r := range []addresses{late, old, late} {
		h.learn(r, false)
	}
	if all := h.Peers(); len(all) != 1 || all[0].ID != late.id || !sameAddrs(all[0].Addrs, late.addrs) {
		t.Errorf("it knows %+v", all)
	}
}

func TestNoMorePeersAreRememberedThanMayBe(t *testing.T) {
	key := newSwarmKey(t)
	h := newHost(t, Options{SwarmKey: key})
	addrs := infoOf(newHost(t, Options{SwarmKey: newSwarmKey(t)})).Addrs
	for range maxKnown + 100 {
		r, err := sign(newIdentity(t), 1, addrs)
		if err != nil {
			t.Fatal(err)
		}
		h.learn(r, false)
	}
	if n := len(h.Peers()); n > maxKnown {
		t.Errorf("%d are remembered", n)
	}
	// Who is there itself has a place.
	there := newHost(t, Options{SwarmKey: key, Peers: []peer.AddrInfo{infoOf(h)}})
	eventually(t, "it is remembered", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		t := h.targets[there.libp2p.ID()]
		return t != nil && t.good
	})
}
