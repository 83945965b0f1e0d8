//go:build real

package modeltest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/volume"
)

// crash is how a life ends.
type crash struct {
	power bool // the machine loses power; otherwise the process is killed
	held  bool // the mounts are kept by a holder
}

func TestRealKilledAtAnyStepNothingIsLost(t *testing.T) { crashes(t, crash{}, once) }

func TestRealKilledAtAnyStepAHeldMountGoesOn(t *testing.T) { crashes(t, crash{held: true}, once) }

func TestRealWithoutPowerAtAnyStepNothingIsLost(t *testing.T) { crashes(t, crash{power: true}, once) }

// TestRealAPowerCutDoesNotUndoWhatWasCommitted is about a file that is written to during the commit: what the
// commit has of it must not be newer than what the mount has afterwards.
func TestRealAPowerCutDoesNotUndoWhatWasCommitted(t *testing.T) {
	disk := disktest.New(t, 1<<30)
	t.Cleanup(func() { bringDown(t, disk.Mount) })
	for n := range 5 {
		dir := filepath.Join(disk.Mount, fmt.Sprint(n))
		must(t, os.Mkdir(dir, 0o711))
		p := crash{power: true}.live(t, disk, "count", dir, "stopped")
		bringDown(t, disk.Mount)
		disk.Remount(t)
		m := &machine{dir: dir, boot: "another"}
		must(t, m.open(context.WithoutCancel(t.Context())))
		c, err := cid.Decode(p.heads[len(p.heads)-1])
		must(t, err)
		committed, seen := m.contents(t, c)["count"], m.seen(t, name)["count"]
		if len(seen) != len(committed) || seen < committed || strings.TrimLeft(committed, "0") == "" {
			t.Errorf("%s was committed, and after a power cut it is %s", committed, seen)
		}
		_, err = m.Do(t.Context(), &volume.Unmount{Name: name})
		must(t, err)
		must(t, m.close())
	}
}

// once picks the first and the last time that a label is reached.
func once(n, of int) bool { return n == 1 || n == of }

func allLabels() []string {
	return []string{volume.StepOverlay, volume.StepMount, volume.StepUsers, volume.StepLeft, volume.StepImport, volume.StepStore, volume.StepPin,
		volume.StepHead, volume.StepUnmount, volume.StepRetire, volume.StepDelete}
}

// crashes ends a life at each step, and looks at what the next one finds.
func crashes(t *testing.T, how crash, pick func(n, of int) bool) {
	disk := disktest.New(t, 1<<30)
	t.Cleanup(func() { bringDown(t, disk.Mount) })
	counted := how.run(t, disk, "count", "")
	if !slices.Contains(counted.said, "done") {
		t.Fatalf("a life that nothing stops ends early: %q", counted.said)
	}
	lives := 0
	for _, label := range allLabels() {
		reached := counted.steps[label]
		if reached == 0 {
			t.Errorf("step %s is never taken", label)
		}
		for n := 1; n <= reached; n++ {
			if !pick(n, reached) {
				continue
			}
			lives++
			stop := fmt.Sprint(label, ":", n)
			t.Run(stop, func(t *testing.T) { how.run(t, disk, strings.ReplaceAll(stop, ":", "-"), stop) })
		}
	}
	t.Logf("%d lives", lives)
}

// past is what a child said that it did.
type past struct {
	said   []string
	steps  map[string]int
	heads  []string                     // acknowledged, in order
	at     map[string]map[string]string // files at each
	files  map[string]string            // as they were written
	safe   map[string]string            // what of them a power cut must leave
	rolled map[string]string            // what they become if what was begun last was done
	left   string                       // a user who is gone
}

func (p *past) read(line string) {
	p.said = append(p.said, line)
	words := strings.Fields(line)
	switch {
	case words[0] == "step":
		p.steps[words[1]]++
	case words[0] == "wrote" && words[1] != "o":
		p.files[words[1]] = words[2]
	case words[0] == "synced" && words[1] != "o":
		p.safe[words[1]] = words[2]
	case words[0] == "left":
		p.left = words[1]
	case words[0] == "rolling":
		p.rolled = p.at[words[1]]
	case words[0] == "rolled":
		p.files, p.rolled = maps.Clone(p.rolled), nil
		p.committed(words[1])
	case words[0] == "committed":
		p.committed(words[1])
	}
}

func (p *past) committed(head string) {
	p.safe = maps.Clone(p.files)
	p.at[head] = maps.Clone(p.files)
	p.heads = append(p.heads, head)
}

// run lives once and is stopped, and checks what is left.
func (how crash) run(t *testing.T, disk *disktest.Disk, dirName, stop string) *past {
	t.Helper()
	dir := filepath.Join(disk.Mount, dirName)
	must(t, os.Mkdir(dir, 0o711))
	p := how.live(t, disk, "live", dir, stop)
	if how.power && stop != "" {
		bringDown(t, disk.Mount)
		disk.Remount(t)
	}
	how.check(t, dir, p)
	return p
}

// live has a child do something in a directory until it is stopped, and returns what it said.
func (how crash) live(t *testing.T, disk *disktest.Disk, what, dir, stop string) *past {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), envChild+"="+what, envDir+"="+dir, envStop+"="+stop)
	for env, set := range map[string]bool{envPower + "=" + disk.Mount: how.power, envHeld + "=1": how.held, envCount + "=1": stop == ""} {
		if set {
			child.Env = append(child.Env, env)
		}
	}
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.Output()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if stop != "" && !killed || stop == "" && err != nil {
		t.Fatalf("the child ended with %v, said %q\n%s", err, out, stderr.String())
	}
	p := &past{steps: map[string]int{}, at: map[string]map[string]string{}, files: map[string]string{}, safe: map[string]string{}}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		p.read(s.Text())
	}
	return p
}

// bringDown ends the mounts of machines that have no power.
func bringDown(t *testing.T, dir string) {
	t.Helper()
	for _, what := range []string{"merged", "closed/base"} {
		found, err := filepath.Glob(filepath.Join(dir, "*", "volumes", "overlays", "*", what))
		must(t, err)
		for _, at := range found {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
				t.Fatalf("unmount %s: %v", at, err)
			}
		}
	}
}

// check begins the next process, and wants all of the past.
func (how crash) check(t *testing.T, dir string, p *past) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	m := &machine{dir: dir}
	if how.power {
		m.boot = "another"
	}
	if how.held {
		var err error
		m.lower, err = held(dir)
		must(t, err)
	}
	if err := m.open(ctx); err != nil {
		t.Fatalf("start: %v", err)
	}
	defer func() {
		for _, n := range []string{name, "other"} {
			if _, err := m.Do(ctx, &volume.Unmount{Name: n}); err != nil && !errors.Is(err, volume.ErrNotFound) {
				t.Error(err)
			}
		}
		must(t, m.close())
		must(t, letGo(dir))
	}()
	if got := m.seen(t, "other"); !cmp.Equal(got, map[string]string{"o": "1"}) {
		t.Errorf("the other volume has %v", got)
	}
	if _, err := m.Inspect(ctx, name); errors.Is(err, volume.ErrNotFound) {
		if len(p.heads) > 0 {
			t.Error("the volume is lost")
		}
		_, err := m.Do(ctx, &volume.Create{Name: name})
		must(t, err)
	}
	m.checkHistory(t, p)
	m.checkContainer(t, p)
	seen := m.seen(t, name)
	how.checkFiles(t, seen, p)
	i, err := m.Inspect(ctx, name)
	must(t, err)
	if !cmp.Equal(seen, m.contents(t, i.Head.Cid)) && !*i.Dirty {
		t.Error("what is in the mount is in no commit, and nobody says so")
	}
	m.goOn(t)
}

// checkHistory wants the commits that were acknowledged, each of the files that were there then.
func (m *machine) checkHistory(t *testing.T, p *past) {
	t.Helper()
	ctx := t.Context()
	i, err := m.Inspect(ctx, name)
	must(t, err)
	var states []string
	for n := i.Sequence; n > 0; n-- {
		c, err := m.Resolve(ctx, fmt.Sprint(name, "@", n))
		must(t, err)
		states = append(states, c.String())
	}
	for _, head := range p.heads {
		if !slices.Contains(states, head) {
			t.Errorf("commit %s was acknowledged; the volume's states are %q", head, states)
			continue
		}
		c, err := cid.Decode(head)
		must(t, err)
		if diff := cmp.Diff(p.at[head], m.contents(t, c)); diff != "" {
			t.Errorf("commit %s (-was +is):\n%s", head, diff)
		}
	}
}

// checkContainer wants a container that said that it is gone not to have the volume mounted, and ends one that did not.
func (m *machine) checkContainer(t *testing.T, p *past) {
	t.Helper()
	i, err := m.Describe(t.Context(), name)
	must(t, err)
	if !slices.Contains(i.Users, container) {
		return
	}
	if p.left == container {
		t.Errorf("%s is gone, and has it mounted", container)
	}
	_, err = m.Do(t.Context(), &volume.Unmount{Name: name, User: container})
	must(t, err)
}

// checkFiles wants what was written, or after a power cut what was synced.
func (how crash) checkFiles(t *testing.T, got map[string]string, p *past) {
	t.Helper()
	if cmp.Equal(got, p.files) || p.rolled != nil && cmp.Equal(got, p.rolled) {
		return
	}
	if !how.power {
		t.Errorf("in the mount (-written +seen):\n%s", cmp.Diff(p.files, got))
		return
	}
	for path, content := range got {
		if want, safe := p.safe[path]; safe && p.files[path] == want && content != want {
			t.Errorf("%s was synced as %q and is %q", path, want, content)
		}
		if _, written := p.files[path]; !written {
			t.Errorf("%s was not written, and is %q", path, content)
		}
	}
	for path, want := range p.safe {
		if _, ok := got[path]; !ok {
			t.Errorf("%s was synced as %q and is gone", path, want)
		}
	}
}

// goOn works in the volume as if nothing had happened.
func (m *machine) goOn(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	want := m.seen(t, name)
	res, err := m.Do(ctx, &volume.Mount{Name: name})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(res.Path, "after"), []byte("1"), 0o644))
	want["after"] = "1"
	_, err = m.Do(ctx, &volume.Set{Name: name, Options: map[string]string{"commit": ""}})
	must(t, err)
	res, err = m.Do(ctx, &volume.Unmount{Name: name})
	must(t, err)
	if diff := cmp.Diff(want, m.contents(t, res.Commit.Cid)); diff != "" {
		t.Errorf("committed afterwards (-want +got):\n%s", diff)
	}
	if _, err = m.Do(ctx, &volume.Unmount{Name: "other"}); err != nil {
		t.Error(err)
	}
	must(t, m.Sweep(ctx))
	left, err := os.ReadDir(filepath.Join(m.dir, "volumes", "overlays"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("overlays left: %v", left)
	}
}

// seen mounts a volume, if it is not, and returns the files in it.
func (m *machine) seen(t *testing.T, name string) map[string]string {
	t.Helper()
	res, err := m.Do(t.Context(), &volume.Mount{Name: name})
	must(t, err)
	files := map[string]string{}
	must(t, filepath.WalkDir(res.Path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(res.Path, path)
		files[rel] = string(data)
		return err
	}))
	return files
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
