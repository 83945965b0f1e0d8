//go:build real

package nettest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// commits has a host write a file so often, each time with another text, in one mount. It returns what each commit has.
func (h *Host) commits(volume, file string, times int) map[string]string {
	h.t.Helper()
	dir := filepath.Join(h.Dir, "mnt-"+volume)
	h.must(os.MkdirAll(dir, 0o755))
	h.Volary("volume", "mount", volume, dir)
	all := map[string]string{}
	for i := range times {
		text := fmt.Sprintf("%s %d", h.Name, i)
		h.Sh(fmt.Sprintf("echo %s >%s", text, filepath.Join(dir, file)))
		all[h.Volary("volume", "commit", volume)] = text
	}
	h.Volary("volume", "umount", volume)
	return all
}

// forks are the commits that `volume forks` lists, the head first and the others sorted.
func (h *Host) forks(volume string) []string {
	h.t.Helper()
	out, err := h.Try(h.t.Context(), "volary", "volume", "forks", "--json", volume)
	if err != nil {
		return nil
	}
	var head, others []string
	for line := range strings.Lines(out) {
		var f struct {
			Commit string `json:"head"`
			Is     string `json:"is"`
		}
		h.must(json.Unmarshal([]byte(line), &f))
		if f.Is == "head" {
			head = append(head, f.Commit)
		} else {
			others = append(others, f.Commit)
		}
	}
	slices.Sort(others)
	return append(head, others...)
}

// agree waits until all hosts list the same states of a volume, so many, and returns them.
func agree(t *testing.T, volume string, states int, hosts ...*Host) []string {
	t.Helper()
	began := time.Now()
	var same []string
	until(t, soon, fmt.Sprintf("%d states of %s on all hosts", states, volume), func() bool {
		same = hosts[0].forks(volume)
		return len(same) == states && !slices.ContainsFunc(hosts, func(h *Host) bool { return !slices.Equal(h.forks(volume), same) })
	})
	t.Logf("%s: %d states are the same on all hosts after %s", volume, states, time.Since(began).Round(time.Millisecond))
	return same
}

func TestWhatBothSidesOfAPartitionWroteIsKeptAndMerged(t *testing.T) {
	t.Parallel()
	n, hosts := joined(t, "a", "b", "c")
	a, b, c := hosts[0], hosts[1], hosts[2]
	a.Volary("volume", "create", "data")
	arrives(t, "data", a.write("data", "base", "base"), hosts...)
	b.Volary("hydrate", "data")
	until(t, soon, "b hears that a has given the lease up", func() bool { return !strings.Contains(b.Volary("volume", "ls"), "written by") })

	n.Part([]*Host{a}, []*Host{b, c})
	const each = 4
	all := a.commits("data", "of-a", each)
	maps.Copy(all, b.commits("data", "of-b", each))
	a.Volary("volume", "create", "new")
	a.write("new", "f", "a")
	b.Volary("volume", "create", "new")
	b.write("new", "f", "b")
	if len(all) != 2*each {
		t.Fatalf("%d commits", len(all))
	}
	if s, _ := a.inspect("data"); all[s.Head] != fmt.Sprint("a ", each-1) {
		t.Errorf("while it is alone, a is at %q", all[s.Head])
	}

	n.Heal()
	states := agree(t, "data", 2, hosts...)
	for _, s := range states {
		if text := all[s]; !strings.HasSuffix(text, fmt.Sprint(" ", each-1)) {
			t.Errorf("%s is no last state of either side, but %q", s, text)
		}
	}
	agree(t, "new", 2, hosts...)
	for _, h := range hosts {
		for cid, text := range all {
			file := "of-" + text[:1]
			if got := h.Volary("cat", cid+"/"+file); got != text {
				t.Errorf("host %s reads %q in %s, which has %q", h.Name, got, cid, text)
			}
			if got := h.Volary("log", cid); !strings.Contains(got, cid) {
				t.Errorf("host %s has no log of %s", h.Name, cid)
			}
		}
	}

	merged := c.Volary("volume", "merge", "data")
	arrives(t, "data", merged, hosts...)
	if got := agree(t, "data", 1, hosts...); got[0] != merged {
		t.Errorf("all are at %s, merged was %s", got[0], merged)
	}
	for _, h := range hosts {
		if got := rows(h.Volary("ls", merged)); !slices.Equal(got, []string{"base", "of-a", "of-b"}) {
			t.Errorf("host %s: merged has %q", h.Name, got)
		}
		log := h.Volary("volume", "log", "data")
		for cid := range all {
			if !strings.Contains(log, cid) {
				t.Errorf("host %s: %s is not in the history\n%s", h.Name, cid, log)
			}
		}
	}
}

func TestWithoutANetworkAllThatIsLocalGoesOn(t *testing.T) {
	t.Parallel()
	n, hosts := joined(t, "a", "b", "c")
	a := hosts[0]
	work := func(h *Host, name string) (took time.Duration) {
		h.must(os.MkdirAll(filepath.Join(h.Dir, "src"), 0o755))
		h.must(os.WriteFile(filepath.Join(h.Dir, "src", "f"), []byte(name), 0o644))
		for _, step := range []string{
			`volary snapshot src >` + name, `volary restore $(cat ` + name + `) to-` + name, `cmp src/f to-` + name + `/f`,
			`volary volume create ` + name + ` --from $(cat ` + name + `)`, `mkdir m-` + name, `volary volume mount ` + name + ` m-` + name,
			`echo more >m-` + name + `/g`, `volary volume commit ` + name, `echo again >m-` + name + `/g`, `volary volume umount ` + name,
			`volary volume log ` + name, `volary volume ls`, `volary cat ` + name + `/g | grep again`,
		} {
			began := time.Now()
			h.Sh(strings.ReplaceAll(step, "volary ", h.bin+" "))
			if one := time.Since(began); one > 30*time.Second {
				t.Errorf("host %s: %s took %s", h.Name, step, one)
			}
			took += time.Since(began)
		}
		return took
	}
	before := work(a, "before")
	n.CutAll()
	for _, h := range hosts {
		t.Logf("without a network host %s took %s; with one, a took %s", h.Name, work(h, "alone-"+h.Name).Round(time.Millisecond),
			before.Round(time.Millisecond))
	}
	t.Logf("and then %s", work(a, "later").Round(time.Millisecond))
	if out := a.Volary("volume", "ls", "-q"); strings.Contains(out, "alone-b") {
		t.Error("the network is not gone")
	}

	n.Heal()
	began := time.Now()
	for _, h := range hosts {
		for _, v := range []string{"before", "alone-a", "alone-b", "alone-c", "later"} {
			h.Until(soon, func(out string) bool { return strings.TrimSpace(out) == "again" }, "cat", v+"/g")
		}
	}
	t.Logf("all hosts have all of it %s after the network is back", time.Since(began).Round(time.Millisecond))
	for _, v := range []string{"before", "alone-a", "alone-b", "alone-c", "later"} {
		agree(t, v, 1, hosts...)
	}
}
