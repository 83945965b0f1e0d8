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

// makeHeads has a host commit so often, and returns the last commit and what the others have.
func (h *Host) makeHeads(volume string, times int) (last string) {
	h.t.Helper()
	dir := filepath.Join(h.Dir, "many")
	h.must(os.MkdirAll(dir, 0o755))
	h.Volary("volume", "mount", volume, dir)
	began := time.Now()
	const at = 100
	for i := 0; i < times; i += at {
		h.Sh(fmt.Sprintf(`for i in $(seq %d %d); do echo $i >many/f; %s volume commit %s >>commits || exit 1; done`,
			i+1, min(i+at, times), h.bin, volume))
	}
	h.t.Logf("%d commits took %s", times, time.Since(began).Round(time.Millisecond))
	h.Volary("volume", "umount", volume)
	commits, err := os.ReadFile(filepath.Join(h.Dir, "commits"))
	h.must(err)
	all := strings.Fields(string(commits))
	return all[len(all)-1]
}

func catchUp(t *testing.T, heads, volumes int) {
	_, hosts := joined(t, "a", "b", "c")
	a, b, c := hosts[0], hosts[1], hosts[2]
	a.Volary("volume", "create", "data")
	arrives(t, "data", a.write("data", "base", "base"), hosts...)
	c.Stop()
	last := a.makeHeads("data", heads)
	a.Sh(fmt.Sprintf(`for i in $(seq %d); do %s volume create many$i || exit 1; done`, volumes, a.bin))
	arrives(t, "data", last, b)
	a.Stop() // b has heard of all of it, and has it to tell

	c.Start()
	c.connected(1)
	t.Logf("host c, which was away for %d heads, knows the last one after %s", heads, arrives(t, "data", last, c).Round(time.Millisecond))
	late := a.n.Host("late")
	late.join(b)
	began := time.Now()
	late.Start()
	arrives(t, "data", last, late)
	t.Logf("a host without any state knows it %s after its start", time.Since(began).Round(time.Millisecond))
	for _, h := range []*Host{c, late} {
		until(t, soon, "all volumes on host "+h.Name, func() bool {
			return strings.Count(h.Volary("volume", "ls", "-q"), "many") == volumes
		})
	}
	a.Start()
	for _, h := range []*Host{c, late} {
		h.Until(soon, func(out string) bool { return out == fmt.Sprintln(heads) }, "cat", "data/f")
		h.Until(soon, func(out string) bool { return strings.Count(out, "\n") == heads+2 }, "volume", "log", "data")
		t.Logf("host %s had %d MiB of memory at most", h.Name, h.MostMemory()>>20)
	}
	agree(t, "data", 1, a, b, c, late)
}

func TestAHostThatWasAwayAndOneThatJoinsLateCatchUp(t *testing.T) {
	t.Parallel()
	catchUp(t, 100, 20)
}
