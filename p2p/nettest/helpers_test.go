//go:build real

package nettest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/volary/volary/pinset/cluster/clustertest"
)

func TestMain(m *testing.M) {
	Main()
	clustertest.Isolate()
	os.Exit(m.Run())
}

const (
	program = "../../bin/volary"
	// soon is how long a test waits for what must come.
	soon = 90 * time.Second
)

// joined makes hosts of one namespace that know of the first, and waits until all are connected.
func joined(t *testing.T, names ...string) (*Network, []*Host) {
	t.Helper()
	n := New(t, program)
	var all []*Host
	for _, name := range names {
		h := n.Host(name)
		h.join(append([]*Host{}, all...)...)
		h.Start()
		all = append(all, h)
	}
	for _, h := range all {
		h.connected(len(all) - 1)
	}
	return n, all
}

// join makes a host's state, in the namespace of others if there are any.
func (h *Host) join(others ...*Host) {
	h.t.Helper()
	args := []string{"init", "--listen", fmt.Sprint(h.IP, ":", Port)}
	if len(others) > 0 {
		args = append(args, "--join", others[0].Volary("token"))
	}
	for _, o := range others {
		args = append(args, "--peer", o.address())
	}
	h.Volary(args...)
}

// address is where other hosts reach this one, which has run.
func (h *Host) address() string {
	h.t.Helper()
	return fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", h.IP, Port, h.id())
}

// id is the host's ID, once it has run.
func (h *Host) id() string {
	h.t.Helper()
	id, err := os.ReadFile(filepath.Join(h.Home, "peer-id"))
	h.must(err)
	return strings.TrimSpace(string(id))
}

// connected waits until a host is connected to so many others.
func (h *Host) connected(others int) {
	h.t.Helper()
	h.Until(soon, func(out string) bool {
		return strings.Count(out, "\tconnected")+strings.Count(out, " connected") == others
	}, "peers")
}

// state is what is asked of a volume.
type state struct {
	Head     string `json:"head"`
	Sequence uint64 `json:"sequence"`
}

// inspect is a volume as a host sees it; ok is false while it sees none.
func (h *Host) inspect(volume string) (s state, ok bool) {
	h.t.Helper()
	out, err := h.Try(h.t.Context(), "volary", "volume", "inspect", "--json", volume)
	if err != nil {
		return s, false
	}
	h.must(json.Unmarshal([]byte(out), &s))
	return s, true
}

// until waits until something holds.
func until(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for over := time.Now().Add(limit); !holds(); {
		if time.Now().After(over) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// arrives waits until hosts have a volume's head at a commit, and returns how long that took.
func arrives(t *testing.T, volume, head string, hosts ...*Host) time.Duration {
	t.Helper()
	began := time.Now()
	for _, h := range hosts {
		until(t, soon, fmt.Sprintf("%s at %s on host %s", volume, head, h.Name), func() bool {
			s, ok := h.inspect(volume)
			return ok && s.Head == head
		})
	}
	return time.Since(began)
}

// write has a host write a file into a volume, and returns the commit.
func (h *Host) write(volume, file, text string) string {
	h.t.Helper()
	dir := filepath.Join(h.Dir, "mnt-"+volume)
	h.must(os.MkdirAll(dir, 0o755))
	// That another host has given the lease up may be heard a moment after what it wrote.
	h.Until(soon, func(string) bool { return true }, "volume", "mount", volume, dir)
	h.Sh(fmt.Sprintf("echo %s >%s", text, filepath.Join(dir, file)))
	return h.Volary("volume", "umount", volume)
}

// rows are lines, sorted.
func rows(text string) []string {
	var all []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		all = append(all, s.Text())
	}
	slices.Sort(all)
	return all
}
