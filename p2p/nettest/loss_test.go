//go:build real

package nettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// farAway makes hosts of one namespace that reach each other only by relays, each way later and with losses.
func farAway(t *testing.T, delay time.Duration, percent int, names ...string) []*Host {
	t.Helper()
	n := New(t, program)
	var all []*Host
	for _, name := range names {
		all = append(all, n.Host(name))
	}
	n.Isolate()
	token := ""
	var peers []string
	for _, h := range all {
		args := []string{"init", "--listen", fmt.Sprint(h.IP, ":", Port)}
		if token != "" {
			args = append(args, "--join", token)
		}
		for _, p := range peers {
			args = append(args, "--peer", p)
		}
		h.Volary(args...)
		h.Start()
		token = h.Volary("token")
		peers = append(peers, fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", n.Here, n.Relay(h, delay), h.id()))
	}
	n.Lose(percent)
	for _, h := range all {
		h.connected(len(all) - 1)
	}
	return all
}

func TestHostsWorkOverALossyAndSlowNetwork(t *testing.T) {
	t.Parallel()
	began := time.Now()
	hosts := farAway(t, 200*time.Millisecond, 10, "a", "b", "c")
	a, b, c := hosts[0], hosts[1], hosts[2]
	t.Logf("all are connected after %s", time.Since(began).Round(time.Millisecond))

	a.Volary("volume", "create", "held")
	dir := filepath.Join(a.Dir, "held")
	a.must(os.Mkdir(dir, 0o755))
	a.Volary("volume", "mount", "held", dir)
	holding := time.Now()
	held := func(h *Host) {
		t.Helper()
		h.Until(soon, func(out string) bool { return strings.Contains(out, "written by") }, "volume", "ls")
		if _, err := h.Try(t.Context(), "volary", "volume", "mount", "held"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
			t.Errorf("host %s mounts what a writes to: %v", h.Name, err)
		}
	}
	held(b)

	a.Volary("volume", "create", "data")
	for i := range 5 {
		h := hosts[i%2]
		if i > 0 {
			h.Until(soon, func(out string) bool { return strings.Contains(out, "data") }, "volume", "ls")
		}
		took := arrives(t, "data", h.write("data", fmt.Sprint("f", i), fmt.Sprint(h.Name, i)), hosts...)
		t.Logf("what %s wrote is known on all hosts after %s", h.Name, took.Round(time.Millisecond))
	}
	if got := c.Volary("cat", "data/f4"); got != "a4" {
		t.Errorf("c reads %q", got)
	}

	a.Sh("head -c 2M /dev/urandom >big && mkdir bigs && mv big bigs")
	big := a.Volary("snapshot", "bigs")
	began = time.Now()
	c.Volary("hydrate", big)
	took := time.Since(began)
	t.Logf("2 MiB came in %s", took.Round(time.Millisecond))
	c.Volary("verify", big)
	for _, h := range []*Host{b, c} {
		held(h)
	}
	t.Logf("the lease is held after %s", time.Since(holding).Round(time.Second))
	lost := 0
	for _, h := range hosts {
		h.Runs()
		lost += h.Lost()
	}
	if lost == 0 {
		t.Error("no packet was lost")
	}
	t.Logf("%d packets were lost on their way to a host", lost)
}
