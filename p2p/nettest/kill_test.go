//go:build real

package nettest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stored is how many bytes of blocks a host has.
func (h *Host) stored() (size int64) {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(h.Home, "store", "packs", "*"))
	h.must(err)
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			size += st.Size()
		}
	}
	return size
}

// inTheMidst runs the program on a host, in the background, and returns once so many bytes came. The function that it
// returns waits for the end.
func (h *Host) inTheMidst(bytes int64, args ...string) (wait func() error) {
	h.t.Helper()
	before := h.stored()
	ended := make(chan error, 1)
	go func() {
		_, err := h.Try(context.Background(), append([]string{"volary"}, args...)...)
		ended <- err
	}()
	for h.stored() < before+bytes {
		if len(ended) > 0 {
			h.t.Fatalf("host %s: it is over, and %d bytes came: %v", h.Name, h.stored()-before, <-ended)
		}
		time.Sleep(time.Millisecond)
	}
	return func() error { return <-ended }
}

func TestWhatIsKilledInTheMidstGoesOn(t *testing.T) {
	t.Parallel()
	const size = 128
	_, hosts := joined(t, "a", "b", "c")
	a, b, c := hosts[0], hosts[1], hosts[2]
	snapshot := func(h *Host, name string) string {
		h.Sh(fmt.Sprintf("mkdir %s && head -c %dM /dev/urandom >%s/f", name, size, name))
		return h.Volary("snapshot", name)
	}

	one := snapshot(a, "one")
	wait := b.inTheMidst(size<<20/8, "hydrate", one)
	b.Kill()
	if err := wait(); err == nil {
		t.Error("a hydrate whose daemon is killed goes well")
	}
	b.Start()
	b.connected(2)
	came := b.stored()
	b.Volary("hydrate", one)
	b.Volary("verify", one)
	t.Logf("b was killed with %d of %d MiB, and got the rest", came>>20, size)
	if came < size<<20/16 {
		t.Error("what came is lost")
	}

	c.Volary("hydrate", one)
	two := snapshot(a, "two")
	c.Volary("hydrate", two)
	wait = b.inTheMidst(size<<20/8, "hydrate", two)
	a.Kill()
	if err := wait(); err != nil {
		t.Errorf("one of the two that have it was killed: %v", err)
	}
	b.Volary("verify", two)
	a.Start()
	a.connected(2)
}

func TestTheLeaseOfAHostThatIsKilledIsTakenOver(t *testing.T) {
	t.Parallel()
	_, hosts := joined(t, "a", "b")
	a, b := hosts[0], hosts[1]
	for _, v := range []string{"stolen", "expired"} {
		a.Volary("volume", "create", v)
		arrives(t, v, a.write(v, "f", "base"), b)
		b.Volary("hydrate", v)
		a.must(os.Mkdir(filepath.Join(a.Dir, v), 0o755))
		a.Volary("volume", "mount", v, v)
		a.Sh("echo of a >" + v + "/a")
	}
	until(t, soon, "b hears of the leases", func() bool { return strings.Count(b.Volary("volume", "ls"), "written by") == 2 })
	a.Kill()
	killed := time.Now()
	for _, v := range []string{"stolen", "expired"} {
		b.must(os.Mkdir(filepath.Join(b.Dir, v), 0o755))
		if _, err := b.Try(t.Context(), "volary", "volume", "mount", v, v); err == nil || !strings.Contains(err.Error(), "has the lease until") {
			t.Errorf("the lease of %s is not held: %v", v, err)
		}
	}
	b.Volary("volume", "mount", "--steal", "stolen", "stolen")
	b.Until(soon, func(string) bool { return true }, "volume", "mount", "expired", "expired")
	if took := time.Since(killed); took > soon {
		t.Errorf("the lease was taken over after %s", took)
	} else {
		t.Logf("the lease was taken over after %s", took.Round(time.Second))
	}
	for _, v := range []string{"stolen", "expired"} {
		b.Sh("echo of b >" + v + "/b")
		b.Volary("volume", "umount", v)
	}

	a.Start()
	a.connected(1)
	for _, v := range []string{"stolen", "expired"} {
		if got := a.Sh("cat " + v + "/a"); got != "of a\n" {
			t.Errorf("what a wrote to %s is %q", v, got)
		}
		a.Volary("volume", "umount", v)
		agree(t, v, 2, a, b)
		b.Volary("volume", "merge", v)
		agree(t, v, 1, a, b)
		for _, h := range hosts {
			if got := fmt.Sprint(rows(h.Volary("ls", v))); got != "[a b f]" {
				t.Errorf("host %s: %s has %s", h.Name, v, got)
			}
		}
	}
}
