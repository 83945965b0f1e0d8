//go:build real

package procs_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/procs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device mounts a file system of its own, and returns where and its number.
func device(t testing.TB) (dir string, dev uint64) {
	t.Helper()
	dir = t.TempDir()
	must(t, unix.Mount("volary-test", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	var st unix.Stat_t
	must(t, unix.Stat(dir, &st))
	return dir, st.Dev
}

// start runs a script until it has become cat(1), which ends when its input does.
func start(t *testing.T, script string, wrap ...string) (pid int) {
	t.Helper()
	if len(wrap) > 0 {
		// Volumes of other tests would be in use as long as this process can see them.
		script = `while read -r _ at type _; do
			case $type in overlay|fuse.*) umount -l "$at" ;; esac
		done </proc/self/mounts; ` + script
	}
	args := append(wrap, "sh", "-c", script+"; exec ${CAT-cat}")
	cmd := exec.Command(args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		must(t, cmd.Wait())
	})
	_, err = io.WriteString(in, "ready\n")
	must(t, err)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q said %q, %v", script, line, err)
	}
	return cmd.Process.Pid
}

func has(ps []procs.Process, pid int) bool {
	return slices.ContainsFunc(ps, func(p procs.Process) bool { return p.PID == pid && p.Name == "cat" })
}

func TestRealWhoUsesAMountIsFound(t *testing.T) {
	dir, dev := device(t)
	must(t, os.WriteFile(dir+"/f", nil, 0o644))
	other := t.TempDir()
	private := []string{"unshare", "-m"}
	for _, c := range []struct {
		name, script string
		wrap         []string
		holds, uses  bool
	}{
		{"works in it", "cd " + dir, nil, true, true},
		{"has a file open", "exec 7<" + dir + "/f", nil, true, true},
		{"has a deleted file open", "exec 7>" + dir + "/g; rm " + dir + "/g", nil, true, true},
		{"could open something", "true", nil, false, false},
		{"has it by propagation", "true", private, false, false},
		{"has it by propagation and works in it", "cd " + dir, private, true, true},
		{"has it at another place", "mount --bind " + dir + " " + other, private, false, true},
		{"does not have it", "umount " + dir, private, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := start(t, c.script, c.wrap...)
			holding, err := procs.Holding(dev)
			must(t, err)
			using, err := procs.Using(dev)
			must(t, err)
			if has(holding, pid) != c.holds || has(using, pid) != c.uses {
				t.Errorf("holding: %v, using: %v", holding, using)
			}
		})
	}
}

func TestRealWhoRunsAProgramOfAMountIsFound(t *testing.T) {
	dir, dev := device(t)
	pid := start(t, "cp $(command -v cat) "+dir+"; CAT="+dir+"/cat")
	ps, err := procs.Holding(dev)
	must(t, err)
	if !has(ps, pid) {
		t.Errorf("%d is not among %v", pid, ps)
	}
}

func BenchmarkRealUsing(b *testing.B) {
	_, dev := device(b)
	for b.Loop() {
		_, err := procs.Using(dev)
		must(b, err)
	}
}

func TestRealMountsThatStayAreFound(t *testing.T) {
	outer := t.TempDir()
	must(t, unix.Mount("volary-test", outer, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(outer, 0)) })
	must(t, unix.Mount("", outer, "", unix.MS_SHARED, ""))
	dir, other := outer+"/a b", t.TempDir()
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Mkdir(outer+"/second", 0o700))
	must(t, unix.Mount("volary-test", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	staying := func() []procs.Mount {
		t.Helper()
		ms, err := procs.Staying(dir)
		must(t, err)
		return ms
	}
	if ms := staying(); len(ms) > 0 {
		t.Errorf("one mount: %v", ms)
	}
	for _, c := range []struct {
		name, script, propagation string
		stays                     bool
	}{
		{"a private copy of the namespace", "true", "private", true},
		{"a copy that gets what happens here", "true", "slave", false},
		{"a copy in which what happens happens here", "true", "shared", false},
		{"a copy of a copy that gets what happens here", "mount --make-rshared /; exec unshare -m --propagation slave ${CAT-cat}", "slave", false},
		{"without it", "umount '" + dir + "'", "private", false},
		{"at another place", "mount --bind '" + dir + "' " + other, "slave", true},
		{"at another place of what gets what happens here", "mount --bind '" + dir + "' " + outer + "/second", "slave", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := start(t, c.script, "unshare", "-m", "--propagation", c.propagation)
			found := slices.ContainsFunc(staying(), func(m procs.Mount) bool { return m.By.PID == pid && m.By.Name == "cat" })
			if found != c.stays {
				t.Errorf("process %d has a mount that stays: %v", pid, found)
			}
		})
	}
	must(t, unix.Mount(dir, other, "", unix.MS_BIND, ""))
	if ms := staying(); len(ms) != 1 || ms[0].Point != other {
		t.Errorf("bound to %s: %v", other, ms)
	}
	must(t, unix.Unmount(other, 0))
}

func BenchmarkRealStaying(b *testing.B) {
	dir, _ := device(b)
	for b.Loop() {
		_, err := procs.Staying(dir)
		must(b, err)
	}
}
