//go:build long

package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/metrics"

	"github.com/volary/volary/head/table"
)

// arrivals are the times at which heads became known on hosts.
type arrivals struct {
	mu   sync.Mutex
	at   map[cid.Cid][]time.Time
	all  int           // how many hosts there are
	full chan struct{} // has an element for each head that is known on all
}

func (a *arrivals) add(n table.News) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range n.Heads {
		if a.at[h.Commit] = append(a.at[h.Commit], time.Now()); len(a.at[h.Commit]) == a.all {
			a.full <- struct{}{}
		}
	}
}

// cpu is how much processor time this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	check(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func percentile(all []time.Duration, p float64) time.Duration {
	slices.Sort(all)
	return all[min(int(float64(len(all))*p), len(all)-1)].Round(100 * time.Microsecond)
}

// figure tells `make bench` what a test has measured.
func figure[N ~int | ~int64 | ~float64](t *testing.T, name string, value N) {
	t.Helper()
	t.Attr(name, fmt.Sprint(float64(value)))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Each host has a table on the disk, and all are connected to each other by TCP.
func TestLongHeadsAreKnownOnFiftyHostsWithinAMoment(t *testing.T) {
	const (
		hosts = 50
		heads = 300
		pause = 100 * time.Millisecond // between two heads
		most  = 250 * time.Millisecond
	)
	seen := &arrivals{at: map[cid.Cid][]time.Time{}, all: hosts - 1, full: make(chan struct{}, heads)}
	counter := metrics.NewBandwidthCounter()
	var members []*member
	for range hosts {
		m := newMember(t, Options{}, libp2p.BandwidthReporter(counter))
		m.onHear = seen.add
		for _, other := range members {
			m.connect(other)
		}
		members = append(members, m)
	}
	untilJoined(t, members...)
	counter.Reset()
	used := cpu(t)
	published := map[cid.Cid]time.Time{}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := range heads {
		m := members[rand.IntN(hosts)]
		n := volumeAt(t, ours(t), fmt.Sprint("v", i), 1, fmt.Sprint("state ", i))
		m.know(n)
		published[n.head.Commit] = time.Now()
		check(t, m.Publish(t.Context(), together([]news{n})))
		<-tick.C
	}
	over := time.After(wait)
	for i := range heads {
		select {
		case <-seen.full:
		case <-over:
			t.Fatalf("%d of %d heads are known on all hosts", i, heads)
		}
	}
	var everywhere, somewhere []time.Duration
	for c, at := range seen.at {
		for _, t := range at {
			somewhere = append(somewhere, t.Sub(published[c]))
		}
		everywhere = append(everywhere, slices.MaxFunc(at, time.Time.Compare).Sub(published[c]))
	}
	used = cpu(t) - used
	sent := counter.GetBandwidthForProtocol(protocols[0]).TotalOut
	t.Logf("%d hosts, %d heads: known on a host after %s (p50) %s (p99), on all after %s (p50) %s (p99); %d bytes and %s of processor a head in all, %d bytes a host",
		hosts, heads, percentile(somewhere, 0.5), percentile(somewhere, 0.99),
		percentile(everywhere, 0.5), percentile(everywhere, 0.99), sent/heads, (used / heads).Round(10*time.Microsecond), sent/heads/hosts)
	figure(t, "host-p50-ms", milliseconds(percentile(somewhere, 0.5)))
	figure(t, "host-p99-ms", milliseconds(percentile(somewhere, 0.99)))
	figure(t, "all-p50-ms", milliseconds(percentile(everywhere, 0.5)))
	figure(t, "all-p99-ms", milliseconds(percentile(everywhere, 0.99)))
	figure(t, "bytes-a-head-and-host", sent/heads/hosts)
	figure(t, "cpu-ms-a-head", milliseconds(used/heads))
	if got := percentile(everywhere, 0.99); got > most {
		t.Errorf("known on all hosts after %s (p99), want at most %s", got, most)
	}
}

func TestLongAHostWithNothingJoinsTwoHundredWithTenThousandVolumes(t *testing.T) {
	const (
		hosts   = 199
		volumes = 10_000
		most    = 5 * time.Second
		memory  = 256 << 20 // of all hosts, most of it both ends of their connections
	)
	known := must(table.Open(filepath.Join(t.TempDir(), "heads.db"), nil))(t)
	defer known.Close()
	n := ours(t)
	var all []news
	for i := range volumes {
		all = append(all, volumeAt(t, n, fmt.Sprint("volume-", i), 1, fmt.Sprint("state ", i)))
	}
	must(known.Learn(t.Context(), together(all)))(t)
	all = nil
	x, _, err := (&keptIndex{known: known}).get()
	check(t, err)
	revision := must(known.Revision())(t)
	counter := metrics.NewBandwidthCounter()
	var members []*member
	for range hosts {
		m := &member{t: t, p2p: listening(t), table: known}
		m.Gossip = must(New(context.Background(), m.p2p, Options{Namespace: n, Known: known, Hear: func(context.Context, table.News) error { return nil }}))(t)
		defer m.Close()
		m.index.index, m.index.revision = x, revision // they are current; one process need not hold it 199 times
		members = append(members, m)
	}
	joiner := newMember(t, Options{}, libp2p.BandwidthReporter(counter))
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, ended, sampled := uint64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc)
			case <-ended:
				return
			}
		}
	}()
	began, used := time.Now(), cpu(t)
	var dials sync.WaitGroup
	for _, m := range members {
		dials.Go(func() { joiner.connect(m) })
	}
	joiner.until("all volumes", func() bool { return joiner.learned() >= volumes })
	took := time.Since(began)
	used = cpu(t) - used
	close(ended)
	<-sampled
	dials.Wait()
	if got := newIndex(must(joiner.table.Volumes())(t)); got.root != x.root {
		t.Errorf("%d volumes, and not as the others know them", len(got.entries))
	}
	grown := int64(peak) - int64(before.HeapAlloc)
	t.Logf("%d volumes from %d hosts: %s, %s of processor on all, %d bytes received, heap of all hosts %d MiB before, %d more at most",
		volumes, hosts, took.Round(time.Millisecond), used.Round(time.Millisecond), counter.GetBandwidthForProtocol(exchangeProtocol).TotalIn, before.HeapAlloc>>20, grown>>20)
	figure(t, "joined-ms", milliseconds(took))
	figure(t, "cpu-ms", milliseconds(used))
	figure(t, "heap-grown-bytes", grown)
	figure(t, "received-bytes", counter.GetBandwidthForProtocol(exchangeProtocol).TotalIn)
	if took > most {
		t.Errorf("up to date after %s, want at most %s", took, most)
	}
	if grown > memory {
		t.Errorf("%d bytes of heap more, want at most %d", grown, memory)
	}
}
