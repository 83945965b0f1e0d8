//go:build real

package freezer_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/freezer"
)

// childEnv makes the test's program something that is paused, or that pauses.
const childEnv = "VOLARY_FREEZER_TEST"

type childJob struct {
	Write   string // count in the files of this directory
	Read    string // or read all files of this one
	Journal string // or pause who uses Mount again and again
	Mount   string
	Hold    bool // once, without an end
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var j childJob
		err := json.Unmarshal([]byte(text), &j)
		if err == nil {
			err = j.run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (j childJob) run() error {
	switch {
	case j.Write != "":
		return count(j.Write)
	case j.Read != "":
		return readAll(j.Read)
	}
	return j.pause()
}

func (j childJob) pause() error {
	f, err := freezer.Open(j.Journal, freezer.Options{})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		resume, err := f.Pause(context.Background(), j.Mount)
		if err != nil {
			return err
		}
		if first {
			fmt.Println("ready")
		}
		if j.Hold {
			select {}
		}
		if err := resume(); err != nil {
			return err
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mounted returns a file system of its own.
func mounted(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("volary-test", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// cgroup is the directory of a cgroup of a test's own.
type cgroup string

func newCgroup(t *testing.T) cgroup {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		front, back, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(back, "cgroup2 ") {
			continue
		}
		dir, err := os.MkdirTemp(strings.Fields(front)[4], "volary-test-*")
		must(t, err)
		t.Cleanup(func() {
			must(t, os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0))
			until(t, "the test's cgroup is empty", func() bool { return os.Remove(dir) == nil })
		})
		return cgroup(dir)
	}
	t.Fatal("cgroup v2 is not mounted")
	return ""
}

func (c cgroup) frozen(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(string(c), "cgroup.events"))
	must(t, err)
	return strings.Contains(string(b), "frozen 1")
}

func (c cgroup) freeze(t *testing.T, value string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(string(c), "cgroup.freeze"), []byte(value), 0))
}

// start runs a command in the cgroup, or where the test runs if c is empty, until it says that it is ready, or is
// cat(1), which says what it is told.
func (c cgroup) start(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if c != "" {
		d, err := os.Open(string(c))
		must(t, err)
		defer d.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(d.Fd())
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { stop(cmd) })
	_, err = io.WriteString(in, "ready\n")
	must(t, err)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%s said %q, %v", cmd, line, err)
	}
	return cmd
}

func stop(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

func child(t *testing.T, j childJob) *exec.Cmd {
	t.Helper()
	b, err := json.Marshal(j)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	return cmd
}

// shell runs a script that goes on for as long as the test.
func shell(script string) *exec.Cmd {
	return exec.Command("sh", "-c", script+"; exec cat")
}

func inside(dir string) *exec.Cmd { return shell("cd " + dir) }

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func open(t *testing.T, o freezer.Options) (*freezer.Freezer, string) {
	t.Helper()
	journal := filepath.Join(t.TempDir(), "paused")
	f, err := freezer.Open(journal, o)
	must(t, err)
	return f, journal
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// wantPause wants a pause in which a cgroup is frozen or not.
func wantPause(t *testing.T, f *freezer.Freezer, mount string, want map[cgroup]bool) {
	t.Helper()
	resume, err := f.Pause(t.Context(), mount)
	must(t, err)
	for c, frozen := range want {
		if c.frozen(t) != frozen {
			t.Errorf("in the pause %s is frozen: %v", c, !frozen)
		}
	}
	must(t, resume())
	for c := range want {
		until(t, "the cgroup goes on", func() bool { return !c.frozen(t) })
	}
}

func TestRealWhoUsesAMountIsFrozen(t *testing.T) {
	f, journal := open(t, freezer.Options{})
	mount := mounted(t)
	wantPause(t, f, mount, nil)
	must(t, os.WriteFile(filepath.Join(mount, "f"), make([]byte, 4096), 0o644))
	must(t, os.Mkdir(filepath.Join(mount, "bin"), 0o755))
	elsewhere := t.TempDir()
	want := map[cgroup]bool{}
	for _, c := range []struct {
		cmd  *exec.Cmd
		uses bool
	}{
		{inside(mount), true},
		{shell("exec 5<" + mount + "/f"), true},
		{exec.Command("sh", "-c", "cp $(command -v cat) $0/bin; exec $0/bin/cat", mount), true},
		{exec.Command("unshare", "-m", "sh", "-c", "mount --bind $0 $1; exec cat", mount, elsewhere), true},
		{exec.Command("unshare", "-m", "cat"), false},
		{inside("/"), false},
	} {
		g := newCgroup(t)
		g.start(t, c.cmd)
		want[g] = c.uses
	}
	wantPause(t, f, mount, want)
	if exists(journal) {
		t.Error("the journal is still there")
	}
}

func TestRealNobodyIsFrozenWhereSomebodyCannotBe(t *testing.T) {
	f, journal := open(t, freezer.Options{})
	mount, g := mounted(t), newCgroup(t)
	g.start(t, inside(mount))
	free := cgroup("").start(t, inside(mount))
	_, err := f.Pause(t.Context(), mount)
	want := fmt.Sprintf("cat (%d) is in the root cgroup", free.Process.Pid)
	if !errors.Is(err, volume.ErrCannotPause) || !strings.Contains(err.Error(), want) {
		t.Errorf("pause: %v, want %s", err, want)
	}
	if g.frozen(t) || exists(journal) {
		t.Error("somebody is frozen")
	}
	stop(free)
	wantPause(t, f, mount, map[cgroup]bool{g: true})
}

func TestRealWhatSomebodyElseFrozeStaysFrozen(t *testing.T) {
	f, _ := open(t, freezer.Options{})
	mount, theirs, ours := mounted(t), newCgroup(t), newCgroup(t)
	theirs.start(t, inside(mount))
	ours.start(t, inside(mount))
	theirs.freeze(t, "1")
	resume, err := f.Pause(t.Context(), mount)
	must(t, err)
	must(t, resume())
	if !theirs.frozen(t) {
		t.Error("it was thawed")
	}
	until(t, "the other goes on", func() bool { return !ours.frozen(t) })
	theirs.freeze(t, "0")
}

func TestRealAPauseTellsWhenItDidNotHold(t *testing.T) {
	f, _ := open(t, freezer.Options{})
	mount := mounted(t)
	for want, meanwhile := range map[string]func(t *testing.T, frozen cgroup){
		"began meanwhile":       func(t *testing.T, _ cgroup) { newCgroup(t).start(t, inside(mount)) },
		"let the cgroup":        func(t *testing.T, frozen cgroup) { frozen.freeze(t, "0") },
		"is in the root cgroup": func(t *testing.T, _ cgroup) { cgroup("").start(t, inside(mount)) },
	} {
		t.Run(want, func(t *testing.T) {
			g := newCgroup(t)
			g.start(t, inside(mount))
			resume, err := f.Pause(t.Context(), mount)
			must(t, err)
			meanwhile(t, g)
			if err := resume(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("resume: %v", err)
			}
		})
	}
}

func TestRealAPauseHasALimit(t *testing.T) {
	f, journal := open(t, freezer.Options{Limit: 2 * time.Second}) // more than it takes to see that all are frozen
	mount, g := mounted(t), newCgroup(t)
	g.start(t, inside(mount))
	resume, err := f.Pause(t.Context(), mount)
	must(t, err)
	until(t, "the limit is reached", func() bool { return !g.frozen(t) })
	if err := resume(); err == nil || !strings.Contains(err.Error(), "2s, the limit") {
		t.Errorf("resume: %v", err)
	}
	if exists(journal) {
		t.Error("the journal is still there")
	}
}

func TestRealWhatDoesNotStopIsNotWaitedForEndlessly(t *testing.T) {
	f, journal := open(t, freezer.Options{Wait: 200 * time.Millisecond})
	image, mount := filepath.Join(t.TempDir(), "image"), t.TempDir()
	run := func(name string, arg ...string) {
		t.Helper()
		if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("truncate", "-s", "16M", image)
	run("mkfs.ext4", "-q", image)
	run("mount", "-o", "loop", image, mount)
	g := newCgroup(t)
	t.Cleanup(func() { run("umount", mount) })
	run("fsfreeze", "-f", mount)
	cmd := g.start(t, exec.Command("sh", "-c", "cd $0; echo ready; echo x >f", mount))
	until(t, "it cannot be interrupted", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		must(t, err)
		return strings.Contains(string(b), ") D ")
	})
	_, err := f.Pause(t.Context(), mount)
	if !errors.Is(err, volume.ErrCannotPause) || !strings.Contains(err.Error(), "did not stop within 200ms") {
		t.Errorf("pause: %v", err)
	}
	run("fsfreeze", "-u", mount)
	if err := cmd.Wait(); err != nil || exists(journal) {
		t.Errorf("it ended with %v", err)
	}
}

func TestRealAKilledDaemonLeavesNobodyFrozen(t *testing.T) {
	mount, g := mounted(t), newCgroup(t)
	g.start(t, inside(mount))
	journal := filepath.Join(t.TempDir(), "paused")
	j := childJob{Journal: journal, Mount: mount, Hold: true}
	stop(cgroup("").start(t, child(t, j)))
	if !g.frozen(t) {
		t.Fatal("the pause did not outlive the process")
	}
	_, err := freezer.Open(journal, freezer.Options{})
	must(t, err)
	until(t, "the cgroup goes on", func() bool { return !g.frozen(t) })
	if exists(journal) {
		t.Error("the journal is still there")
	}

	// What has the path of a cgroup that was frozen, and is another, is not touched.
	stop(cgroup("").start(t, child(t, j)))
	b, err := os.ReadFile(journal)
	must(t, err)
	_, err = freezer.Open(journal, freezer.Options{})
	must(t, err)
	other := newCgroup(t)
	must(t, os.WriteFile(journal, []byte(strings.ReplaceAll(string(b), string(g), string(other))), 0o600))
	other.freeze(t, "1")
	_, err = freezer.Open(journal, freezer.Options{})
	must(t, err)
	if !other.frozen(t) {
		t.Error("another cgroup was thawed")
	}

	// At whatever moment.
	j.Hold = false
	left := 0
	for range 30 {
		cmd := cgroup("").start(t, child(t, j))
		time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		stop(cmd)
		if exists(journal) {
			left++
		}
		_, err := freezer.Open(journal, freezer.Options{})
		must(t, err)
		until(t, "the cgroup goes on", func() bool { return !g.frozen(t) })
	}
	t.Logf("%d of 30 were killed in a pause", left)
}
