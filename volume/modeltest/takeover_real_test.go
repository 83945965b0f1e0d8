//go:build real

package modeltest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
)

// TestRealADaemonStartsWhileADirectoryIsCopiedUp is about a lock of the file system that changes are on: overlayfs
// holds it while it asks the base for a directory's attributes, and nobody answers until the next daemon is there.
func TestRealADaemonStartsWhileADirectoryIsCopiedUp(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	d, err := newDaemon(ctx, program(t), filepath.Join(t.TempDir(), "state"))
	must(t, err)
	t.Cleanup(func() { must(t, d.close()) })
	do := func(op volume.Operation) volume.Result {
		t.Helper()
		res, err := d.Do(ctx, op)
		must(t, err)
		return res
	}
	do(&volume.Create{Name: name})
	at := do(&volume.Mount{Name: name}).Path
	must(t, os.Mkdir(filepath.Join(at, "dir"), 0o755))
	// Without any attribute in the base the kernel would not ask for those of the directory.
	must(t, unix.Setxattr(filepath.Join(at, "dir"), "user.x", []byte("y"), 0))
	do(&volume.Unmount{Name: name})
	at = do(&volume.Mount{Name: name}).Path
	if _, err := os.Lstat(filepath.Join(at, "dir", "new")); !os.IsNotExist(err) {
		t.Fatalf("look up: %v", err)
	}
	stop(t, d.process.Process)
	made, thread := make(chan error, 1), make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		made <- os.Mkdir(filepath.Join(at, "dir", "new"), 0o755)
	}()
	waits := fmt.Sprintf("/proc/self/task/%d/stack", <-thread)
	for end := time.Now().Add(startTime); ; {
		stack, err := os.ReadFile(waits)
		must(t, err)
		if strings.Contains(string(stack), "fuse") && strings.Contains(string(stack), "ovl_copy_up") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the directory is not being copied up:\n%s", stack)
		}
		<-time.After(5 * time.Millisecond)
	}
	must(t, d.end(unix.SIGKILL))
	must(t, d.start(ctx))
	must(t, <-made)
	do(&volume.Unmount{Name: name})
}

// stop stops a process, and returns when none of its threads runs any more.
func stop(t *testing.T, p *os.Process) {
	t.Helper()
	must(t, p.Signal(unix.SIGSTOP))
	t.Cleanup(func() { p.Signal(unix.SIGCONT) }) // so that it can end if the test fails
	for end := time.Now().Add(startTime); ; {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		must(t, err)
		runs := slices.ContainsFunc(threads, func(thread string) bool {
			stat, err := os.ReadFile(thread)
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
		if !runs {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d is not stopped", p.Pid)
		}
		<-time.After(5 * time.Millisecond)
	}
}
