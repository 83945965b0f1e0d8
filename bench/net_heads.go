package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// measureSpread measures how long a head takes to the other hosts.
func (p *networkPlan) measureSpread(ctx context.Context, g networkGroup) error {
	for round := range p.rounds {
		err := p.inTurns(g, round, func(who string) error {
			if who == daemonsName {
				return p.measureDaemons(ctx)
			}
			return p.fromTest(ctx, who, "TestLongHeadsAreKnownOnFiftyHostsWithinAMoment",
				reported{"host-p50-ms", hostHalf, 1}, reported{"host-p99-ms", hostMost, 1},
				reported{"all-p50-ms", allHalf, 1}, reported{"all-p99-ms", allMost, 1},
				reported{"bytes-a-head-and-host", bytesAHead, 1}, reported{"cpu-ms-a-head", processorAHead, 1})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// measureJoin measures what a host with nothing takes until it knows what the others do.
func (p *networkPlan) measureJoin(ctx context.Context, g networkGroup) error {
	for range p.rounds {
		if err := p.fromTest(ctx, joinerName, "TestLongAHostWithNothingJoinsTwoHundredWithTenThousandVolumes",
			reported{"joined-ms", joinTime, 1e-3}, reported{"cpu-ms", joinProcessor, 1e-3},
			reported{"heap-grown-bytes", joinHeap, 1.0 / (1 << 20)}, reported{"received-bytes", joinReceived, 1.0 / (1 << 20)}); err != nil {
			return err
		}
	}
	return nil
}

// reported is a figure that a test reports as an attribute, times a factor.
type reported struct {
	key    string
	figure figure
	factor float64
}

// fromTest runs a long test of gossip, which has many hosts in one process, and records what it reports as attributes.
// That it fails, because a figure is not as it should be, is for the targets to tell.
func (p *networkPlan) fromTest(ctx context.Context, who, name string, want ...reported) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-tags=long", "-count=1", "-timeout=5m", "-v", "-run=^"+name+"$", "./head/gossip")
	out, failed := cmd.CombinedOutput()
	got := attributes(string(out), name)
	for _, r := range want {
		value, ok := got[r.key]
		if !ok {
			return errors.Join(fmt.Errorf("%s does not tell its %s\n%s", name, r.key, tail(string(out))), failed)
		}
		p.res.record(r.figure, who, value*r.factor)
	}
	return ctx.Err()
}

// attributes are the numbers that a test told by testing.T.Attr, from what `go test -v` printed.
func attributes(printed, test string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(printed) {
		words := strings.Fields(line)
		if len(words) != 5 || words[0] != "===" || words[1] != "ATTR" || words[2] != test {
			continue
		}
		if n, err := strconv.ParseFloat(words[4], 64); err == nil {
			all[words[3]] = n
		}
	}
	return all
}

// seen is when a watcher printed a head.
type seen struct {
	head string
	at   time.Time
}

// measureDaemons commits on one of three hosts and looks at what the two others see.
func (p *networkPlan) measureDaemons(ctx context.Context) (err error) {
	if why := cannotMount(); why != "" {
		p.res.leaveOut(daemonsName, errors.New(why))
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir := filepath.Join(p.work, "daemons")
	var hosts []*host
	defer func() {
		cancel()
		for _, h := range hosts {
			err = errors.Join(err, h.close())
		}
		err = errors.Join(err, removeAll(dir))
	}()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		h, err := p.member(ctx, dir, name, hosts...)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	const volume = "watched"
	if err := hosts[0].create(ctx, volume, ""); err != nil {
		return err
	}
	mount, err := hosts[0].mount(ctx, volume)
	if err != nil {
		return err
	}
	var watchers []<-chan seen
	for _, h := range hosts[1:] {
		w, err := h.watch(ctx, volume)
		if err != nil {
			return err
		}
		watchers = append(watchers, w)
	}
	var each, all, whole, commits []float64
	for n := range p.sizes.commits {
		if err := change(filepath.Join(mount, "f"), n); err != nil {
			return err
		}
		began := time.Now()
		head, err := hosts[0].commit(ctx, volume)
		if err != nil {
			return err
		}
		acknowledged := time.Now()
		last := began
		for _, w := range watchers {
			at, err := untilSeen(ctx, w, head)
			if err != nil {
				return err
			}
			each = append(each, milliseconds(at.Sub(acknowledged)))
			if at.After(last) {
				last = at
			}
		}
		all, whole = append(all, milliseconds(last.Sub(acknowledged))), append(whole, milliseconds(last.Sub(began)))
		commits = append(commits, milliseconds(acknowledged.Sub(began)))
	}
	for _, f := range []struct {
		figure figure
		values []float64
		part   float64
	}{
		{hostHalf, each, 0.5}, {hostMost, each, 0.99}, {allHalf, all, 0.5}, {allMost, all, 0.99},
		{wholeHalf, whole, 0.5}, {wholeMost, whole, 0.99}, {commitHalf, commits, 0.5},
	} {
		p.res.record(f.figure, daemonsName, quantile(f.values, f.part))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile is the value that a part of all are not above.
func quantile(all []float64, part float64) float64 {
	slices.Sort(all)
	return all[min(int(float64(len(all))*part), len(all)-1)]
}

// untilSeen waits until a watcher has printed a head.
func untilSeen(ctx context.Context, w <-chan seen, head string) (time.Time, error) {
	const patience = 30 * time.Second
	for over := time.After(patience); ; {
		select {
		case s, ok := <-w:
			if !ok {
				return time.Time{}, errors.New("volary watch has ended")
			}
			if s.head == head {
				return s.at, nil
			}
		case <-over:
			return time.Time{}, fmt.Errorf("head %s did not come within %s", head, patience)
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// watch tells what a host sees of a volume, once it knows it, until ctx is done. What is taken late is not lost.
func (h *host) watch(ctx context.Context, volume string) (<-chan seen, error) {
	if err := until(ctx, func() (bool, error) { _, err := h.run(ctx, "volume", "inspect", volume); return err == nil, nil }); err != nil {
		return nil, fmt.Errorf("volume %s is not known: %w", volume, err)
	}
	cmd := command(ctx, h.env, h.bin, "watch", "--json", "--current", volume)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	all := make(chan seen, 1<<10)
	go func() {
		defer close(all)
		defer cmd.Wait()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			at := time.Now()
			var news struct{ Head string }
			if json.Unmarshal(lines.Bytes(), &news) == nil {
				all <- seen{news.Head, at}
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case _, ok := <-all: // where it is now: from here on it watches
		if !ok {
			return nil, errors.New("volary watch has ended")
		}
		return all, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// networkState is what a host says of its network.
type networkState struct {
	Addrs     []string
	Connected int
}

func (h *host) network(ctx context.Context) (networkState, error) {
	out, err := h.run(ctx, "status", "--json")
	if err != nil {
		return networkState{}, err
	}
	var st struct{ Network networkState }
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		return networkState{}, fmt.Errorf("volary status --json printed %q: %w", tail(out), err)
	}
	return st.Network, nil
}

// untilConnected waits until a host listens and has so many peers.
func (h *host) untilConnected(ctx context.Context, peers int) error {
	var st networkState
	err := until(ctx, func() (_ bool, err error) {
		st, err = h.network(ctx)
		return len(st.Addrs) > 0 && st.Connected >= peers, err
	})
	if err != nil {
		return fmt.Errorf("%s has %d of %d peers: %w", h.home, st.Connected, peers, err)
	}
	return nil
}

// until asks again and again whether something is so.
func until(ctx context.Context, is func() (bool, error)) error {
	const patience, pause = 30 * time.Second, 50 * time.Millisecond
	for over := time.Now().Add(patience); ; {
		if ok, err := is(); ok || err != nil {
			return err
		}
		if time.Now().After(over) {
			return fmt.Errorf("not within %s", patience)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
