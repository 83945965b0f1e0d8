//go:build real && long

package nettest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tomorrow builds the program with a standard library whose clock is a day ahead.
func tomorrow(t *testing.T) (bin string) {
	t.Helper()
	const right, wrong = "\tsec, nsec, mono := runtimeNow()\n", "\tsec, nsec, mono := runtimeNow()\n\tsec += 24 * 60 * 60\n"
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil || strings.Count(string(text), right) == 0 {
		t.Fatalf("the clock is not in %s: %v", source, err)
	}
	dir := t.TempDir()
	other, overlay, bin := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "volary")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: other}})
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{other: []byte(strings.ReplaceAll(string(text), right, wrong)), overlay: replace} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", overlay, "-o", bin, "../../cmd/volary")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func TestLongAHostWhoseClockIsADayAheadIsOneOfAll(t *testing.T) {
	bin := tomorrow(t)
	n := New(t, program)
	var hosts []*Host
	for _, name := range []string{"a", "ahead", "c"} {
		h := n.Host(name)
		if name == "ahead" {
			h.Use(bin)
		}
		h.join(hosts...)
		h.Start()
		hosts = append(hosts, h)
	}
	for _, h := range hosts {
		h.connected(2)
	}
	a, ahead, c := hosts[0], hosts[1], hosts[2]
	if day := time.Now().Add(24 * time.Hour).UTC().Format("2006-01-02T"); !strings.Contains(ahead.Log(), "time="+day) {
		t.Fatalf("its clock is right:\n%s", ahead.Log())
	}
	a.Volary("volume", "create", "data")
	for _, h := range []*Host{a, ahead, c, ahead, a} {
		arrives(t, "data", h.write("data", "of-"+h.Name, h.Name), hosts...)
	}
	for _, h := range hosts {
		h.Volary("hydrate", "data")
	}

	ahead.must(os.Mkdir(filepath.Join(ahead.Dir, "mnt"), 0o755))
	ahead.Volary("volume", "mount", "data", "mnt")
	if _, err := c.Try(t.Context(), "volary", "volume", "mount", "data"); err == nil || !strings.Contains(err.Error(), "has the lease until") {
		t.Errorf("its lease is not held: %v", err)
	}
	ahead.Volary("volume", "umount", "data")

	n.Part([]*Host{ahead}, []*Host{a, c})
	lost := map[string]string{ahead.write("data", "alone", "ahead"): "ahead", a.write("data", "alone", "a"): "a"}
	n.Heal()
	for _, state := range agree(t, "data", 2, hosts...) {
		for _, h := range hosts {
			if got := h.Volary("cat", state+"/alone"); got != lost[state] {
				t.Errorf("host %s: %s has %q, want %q", h.Name, state, got, lost[state])
			}
		}
	}
	merged := c.Volary("volume", "merge", "data", "--keep-both")
	arrives(t, "data", merged, hosts...)
	agree(t, "data", 1, hosts...)
	arrives(t, "data", a.write("data", "last", "last"), hosts...)
	if s, _ := ahead.inspect("data"); s.Sequence < 8 {
		t.Errorf("sequence %d", s.Sequence)
	}
}
