//go:build real

package p2p

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

func TestAKuboDaemonOfTheSwarmIsAPeer(t *testing.T) {
	key := newSwarmKey(t)
	d, err := kubotest.Init(t.Context(), filepath.Join(t.TempDir(), "ipfs"), kubotest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.Repo, "swarm.key")
	if err := os.WriteFile(file, key.File(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	at, err := d.SwarmAddr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := ParsePeer(at, true)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	read, err := namespace.ParseSwarmKey(b)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, Options{SwarmKey: &read, Peers: []peer.AddrInfo{info}})
	stranger := newHost(t, Options{SwarmKey: newSwarmKey(t), Peers: []peer.AddrInfo{info}})
	only := func(h *Host) Peer {
		if all := h.Peers(); len(all) == 1 {
			return all[0]
		}
		return Peer{}
	}
	eventually(t, "the daemon is connected", func() bool {
		p := only(h)
		return p.ID == info.ID && p.Latency > 0 && strings.HasPrefix(p.Agent, "kubo/")
	})
	eventually(t, "who has another key is told so", func() bool { return only(stranger).Err != nil })
	if p := only(stranger); !p.Connected.IsZero() || !strings.Contains(p.Err.Error(), "swarm key") {
		t.Errorf("the peer is %+v", p)
	}
	peers, err := d.Run(t.Context(), "swarm", "peers")
	if err != nil || !strings.Contains(peers, h.libp2p.ID().String()) || strings.Contains(peers, stranger.libp2p.ID().String()) {
		t.Errorf("the daemon's peers are %s, %v", peers, err)
	}
}
