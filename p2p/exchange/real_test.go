//go:build real

package exchange_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// swarmDaemon is a Kubo daemon in the swarm of these tests' hosts, and where it is.
func swarmDaemon(t testing.TB) (*kubotest.Daemon, peer.AddrInfo) {
	t.Helper()
	d, err := kubotest.Init(t.Context(), filepath.Join(t.TempDir(), "ipfs"), kubotest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	key := "/key/swarm/psk/1.0.0/\n/base16/\n" + hex.EncodeToString(swarmKey) + "\n"
	if err := os.WriteFile(filepath.Join(d.Repo, "swarm.key"), []byte(key), 0o600); err != nil {
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
	info, err := peer.AddrInfoFromString(at)
	if err != nil {
		t.Fatal(err)
	}
	return d, *info
}

func TestAKuboDaemonOfTheSwarmServesUsAndIsServed(t *testing.T) {
	d, at := swarmDaemon(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, random(20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := d.Run(t.Context(), "add", "-Q", file)
	if err != nil {
		t.Fatal(err)
	}
	root, err := cid.Decode(string(bytes.TrimSpace([]byte(out))))
	if err != nil {
		t.Fatal(err)
	}
	ours := blockstest.Random(5, 40, 1<<20)
	a, b := newHost(t), serving(t)
	x := newExchange(t, a, memory(t, ours...), exchange.Options{})
	if err := a.Connect(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	connect(t, a, b) // one who has nothing, and is asked first

	blk, err := x.Get(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	links, err := snapshot.Links(blk)
	if err != nil || len(links) != 20 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	began := time.Now()
	for blk, err := range x.GetMany(t.Context(), links...) {
		if err != nil || len(blk.RawData()) != 1<<20 {
			t.Fatal(err)
		}
	}
	t.Logf("20 MiB from Kubo in %s", time.Since(began).Round(time.Millisecond))
	for _, blk := range ours {
		if _, err := d.Run(t.Context(), "block", "stat", "--timeout=20s", blk.Cid().String()); err != nil {
			t.Fatal(err)
		}
	}
}
