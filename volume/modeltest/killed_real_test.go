//go:build real

package modeltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
)

// stopThreads stops threads of another process until its standard input ends.
func stopThreads(ids []string) error {
	runtime.LockOSThread()
	for _, s := range ids {
		id, err := strconv.Atoi(s)
		if err == nil {
			err = unix.PtraceSeize(id)
		}
		if err == nil {
			err = unix.PtraceInterrupt(id)
		}
		var status unix.WaitStatus
		if err == nil {
			_, err = unix.Wait4(id, &status, unix.WALL, nil)
		}
		if err != nil {
			return fmt.Errorf("stop thread %s: %w", s, err)
		}
	}
	fmt.Println("stopped")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// deafen has a daemon answer nothing that is asked of its mounts, until hear is called, and do everything else.
func (d *daemon) deafen(t *testing.T) (hear func()) {
	t.Helper()
	var readers []string
	// A worker that is about to wait is found at the next look.
	for end := time.Now().Add(startTime); len(readers) == 0; {
		if time.Now().After(end) {
			t.Fatal("nobody reads from /dev/fuse")
		}
		<-time.After(20 * time.Millisecond)
		readers = d.threads(t, func(dir, call string) bool {
			f := strings.Fields(call)
			if len(f) < 2 || f[0] != fmt.Sprint(unix.SYS_READ) {
				return false
			}
			fd, err := strconv.ParseUint(f[1], 0, 64)
			must(t, err)
			file, _ := os.Readlink(fmt.Sprintf("%s/fd/%d", dir, fd))
			return file == "/dev/fuse"
		})
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envChild+"=stop", envThreads+"="+strings.Join(readers, " "))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	if n, err := out.Read(make([]byte, 64)); n == 0 {
		t.Fatal(errors.Join(err, child.Wait()))
	}
	hear = sync.OnceFunc(func() {
		in.Close()
		must(t, child.Wait())
	})
	t.Cleanup(hear) // whatever comes, as what ends the mount waits for answers
	return hear
}

// threads returns those of the daemon that are in certain system calls.
func (d *daemon) threads(t *testing.T, is func(dir, call string) bool) (found []string) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", d.process.Process.Pid))
	must(t, err)
	for _, dir := range all {
		if call, err := os.ReadFile(dir + "/syscall"); err == nil && is(dir, string(call)) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}

// hasOpen reports whether the daemon has a directory open.
func (d *daemon) hasOpen(t *testing.T, dir string) bool {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.process.Process.Pid))
	must(t, err)
	for _, fd := range fds {
		if at, err := os.Readlink(fd); err == nil && at == dir {
			return true
		}
	}
	return false
}

// opens waits until the daemon has a directory open, and reports false if that was not seen until a commit ended, or for
// long: it can be quicker than the look.
func (d *daemon) opens(t *testing.T, dir string, committed chan error) bool {
	t.Helper()
	for end := time.Now().Add(startTime / 6); time.Now().Before(end) && len(committed) == 0; {
		if d.hasOpen(t, dir) {
			return true
		}
	}
	return false
}

// looksUp returns the threads of the daemon that wait for a directory which somebody else has locked.
func (d *daemon) looksUp(t *testing.T) []string {
	return d.threads(t, func(dir, call string) bool {
		number, _, _ := strings.Cut(call, " ")
		if number != fmt.Sprint(unix.SYS_NEWFSTATAT) && number != fmt.Sprint(unix.SYS_OPENAT) {
			return false
		}
		stack, err := os.ReadFile(dir + "/stack")
		return err == nil && strings.Contains(string(stack), "walk_component") || strings.Contains(string(stack), "lookup")
	})
}

// exitBusy is how the program ends if another process has the state.
const exitBusy = 7

// startTwo begins the lives of two daemons, of which one is to give way.
func (d *daemon) startTwo(t *testing.T) {
	t.Helper()
	must(t, d.launch())
	process, ended := d.process, d.ended
	must(t, d.launch())
	var err error
	select {
	case err = <-ended:
	case err = <-d.ended:
		d.process, d.ended = process, ended
	case <-time.After(startTime):
		t.Fatal("two daemons run at once")
	}
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != exitBusy {
		t.Fatalf("one daemon ended: %v\n%s", err, d.log.String())
	}
}

// TestRealADaemonFollowsOneThatCannotEnd has a daemon killed in a commit, while it waits for a directory that overlayfs
// has locked until the daemon answers what it asked of the base.
func TestRealADaemonFollowsOneThatCannotEnd(t *testing.T) {
	followed(t, func(d *daemon) { must(t, d.end(unix.SIGKILL)) })
}

// followed has end called when a daemon cannot end any more, and another one begin after that.
func followed(t *testing.T, end func(*daemon)) {
	t.Helper()
	const dirs, files = 20, 5000
	ctx := context.WithoutCancel(t.Context())
	d, err := newDaemon(ctx, program(t), filepath.Join(t.TempDir(), "state"))
	must(t, err)
	t.Cleanup(func() {
		if d.host == nil {
			return // what went wrong has been said
		}
		_, err := d.Do(ctx, &volume.Unmount{Name: name})
		must(t, errors.Join(err, d.close()))
	})
	do := func(op volume.Operation) volume.Result {
		t.Helper()
		res, err := d.Do(ctx, op)
		must(t, err)
		return res
	}
	do(&volume.Create{Name: name})
	at := do(&volume.Mount{Name: name}).Path
	dir := func(i int) string { return filepath.Join(at, fmt.Sprint("dir-", i)) }
	for i := range dirs {
		must(t, os.Mkdir(dir(i), 0o755))
		// Without any attribute in the base the kernel would not ask for those of the directory.
		must(t, unix.Setxattr(dir(i), "user.x", []byte("y"), 0))
	}
	do(&volume.Unmount{Name: name})
	do(&volume.Set{Name: name, Options: map[string]string{"commit": volume.CommitManually}})
	at = do(&volume.Mount{Name: name}).Path
	for i := range files {
		must(t, os.WriteFile(filepath.Join(at, fmt.Sprint("file-", i)), nil, 0o644))
	}
	// How far a commit is when the directory is locked is a matter of chance.
	var made, committed chan error
	stuck := false
	for i := 0; !stuck; i++ {
		if i == dirs {
			t.Fatal("no commit came upon a directory that is being copied up")
		}
		// The mount keeps names of upper in memory, which are to be looked up on the disk.
		do(&volume.Unmount{Name: name})
		at = do(&volume.Mount{Name: name}).Path
		for range 3 {
			must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		}
		if _, err := os.Lstat(filepath.Join(dir(i), "new")); !os.IsNotExist(err) {
			t.Fatalf("look up: %v", err)
		}
		upper := filepath.Join(filepath.Dir(at), "layers", "upper")
		hear := d.deafen(t)
		made, committed = make(chan error, 1), make(chan error, 1)
		host := d.host
		go func() {
			_, err := host.Volumes.Do(ctx, &volume.Commit{Name: name})
			committed <- err
		}()
		if !d.opens(t, upper, committed) {
			hear()
			must(t, <-committed)
			continue
		}
		<-time.After(time.Duration(i) * time.Millisecond)
		go func() { made <- os.Mkdir(filepath.Join(dir(i), "new"), 0o755) }()
		for end := time.Now().Add(time.Second / 4); !stuck && time.Now().Before(end); {
			before := d.looksUp(t)
			<-time.After(10 * time.Millisecond)
			stuck = len(before) > 0 && slices.Equal(before, d.looksUp(t))
		}
		if stuck {
			end(d)
		}
		hear()
		if !stuck {
			must(t, <-made)
			must(t, <-committed)
		}
	}
	// Who cannot answer takes nothing away.
	out, err := exec.Command(d.bin, "--home", d.home, "ls", "tag").CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != exitBusy || !strings.Contains(string(out), "was killed, and cannot end") {
		t.Errorf("another command: %v\n%s", err, out)
	}
	d.startTwo(t)
	must(t, d.greet(ctx))
	if d.followed() != 1 {
		t.Errorf("the daemon could end\n%s", d.log.String())
	}
	must(t, <-made)
	if err := <-committed; err == nil {
		t.Error("a killed daemon made a commit")
	}
	do(&volume.Commit{Name: name})
	do(&volume.Unmount{Name: name})
}

// TestRealADaemonFollowsOneThatWasMounting kills daemons at moments of mounting, most of which are short.
func TestRealADaemonFollowsOneThatWasMounting(t *testing.T) {
	const rounds = 20
	ctx := context.WithoutCancel(t.Context())
	d, err := newDaemon(ctx, program(t), filepath.Join(t.TempDir(), "state"))
	must(t, err)
	t.Cleanup(func() {
		if d.host != nil {
			must(t, d.close())
		}
	})
	_, err = d.Do(ctx, &volume.Create{Name: name})
	must(t, err)
	for round := range rounds {
		at := time.Duration(round) * 2 * time.Millisecond
		host, mounted := d.host, make(chan error, 1)
		go func() {
			_, err := host.Volumes.Do(ctx, &volume.Mount{Name: name})
			mounted <- err
		}()
		<-time.After(at)
		must(t, d.end(unix.SIGKILL))
		must(t, d.start(ctx))
		<-mounted
		res, err := d.Do(ctx, &volume.Mount{Name: name})
		must(t, err)
		must(t, os.WriteFile(filepath.Join(res.Path, "file"), fmt.Append(nil, round), 0o644))
		_, err = d.Do(ctx, &volume.Unmount{Name: name})
		must(t, err)
	}
	t.Logf("%d of %d could not end by themselves", d.followed(), rounds)
}
