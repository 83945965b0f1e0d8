//go:build real

package cluster_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/cluster/clustertest"
)

// inline is a root that holds its content itself, so that no peer fetches anything.
func inline(t *testing.T, n int) cid.Cid {
	t.Helper()
	h, err := mh.Sum(fmt.Appendf(nil, "inline %d", n), mh.IDENTITY, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, h)
}

func TestManyPinsAreListedInOrderAndInLittleMemory(t *testing.T) {
	s := withPins(t, 1000)
	wantList(t, s, 1000)
}

// withPins is a set at a cluster of its own, whose pins were made the newest first.
func withPins(t *testing.T, n int) *cluster.Set {
	t.Helper()
	own, err := clustertest.Start(t.Context(), clustertest.Options{Dir: t.TempDir(), Peers: 1, Subnet: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	})
	s := fresh(t, cluster.Options{Endpoints: []string{own.Nodes[0].REST()}})
	record := strings.Repeat("r", 1000) // as long as a signed head and a binding are
	begin := time.Now()
	var wg sync.WaitGroup
	for g := range 200 {
		wg.Go(func() {
			for i := g; i < n; i += 200 {
				p := pinset.Pin{Root: inline(t, i), Name: fmt.Sprint("vol/", i), Meta: map[string]string{"record": record}, Created: time.Unix(int64(n-i), 0)}
				if err := s.Add(t.Context(), p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d pins added in %s", n, time.Since(begin).Round(time.Millisecond))
	return s
}

// wantList lists the pins of withPins and tells how long it took.
func wantList(t *testing.T, s *cluster.Set, n int) time.Duration {
	t.Helper()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin, listed, most := time.Now(), 0, uint64(0)
	for p, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint("vol/", n-1-listed); p.Name != want || len(p.Meta["record"]) != 1000 {
			t.Fatalf("pin %d is %s, want %s", listed, p.Name, want)
		}
		if listed++; listed == 1 || listed == n {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc-min(before.HeapAlloc, now.HeapAlloc))
		}
	}
	took := time.Since(begin)
	t.Logf("%d pins of 1 KB listed in %s, %d KiB kept meanwhile", listed, took.Round(time.Millisecond), most>>10)
	if listed != n || most > 1<<20 {
		t.Errorf("want %d pins, in less than 1 MiB", n)
	}
	return took
}
