// Package procs finds the processes that use a mounted file system.
//
// Start with [Using]; [Holding] leaves out those that could use it, but have nothing of it open. Both look at all
// processes of the caller's PID namespace (proc(5)), which takes root. What the kernel itself has open, such as
// the file of a loop device, belongs to no process and is not found. Nor is init, where it has capabilities that
// the caller lacks, and so may not be looked at.
package procs

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// initPID is that of the process which takes care of the others. It works in nobody's volumes.
const initPID = 1

// Process is one that was running when it was found.
type Process struct {
	PID  int
	Name string
}

func (p Process) String() string { return fmt.Sprintf("%s (%d)", p.Name, p.PID) }

// Holding returns the processes that have something of a device open, mapped, or as a directory of their own. The
// error wraps [fs.ErrPermission] if there are some that the caller may not look at; those found are returned with it.
func Holding(dev uint64) ([]Process, error) {
	return find(func(proc string) (bool, error) { return holds(proc, dev) })
}

// Using returns those of [Holding], and all that see the device mounted in a mount namespace which is not the
// caller's, as those of a container do. A namespace that shows it exactly where the caller's does got it by
// propagation, as that of many a system service; a process there counts only if it holds something.
func Using(dev uint64) ([]Process, error) {
	v, err := newViews(dev)
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	return find(func(proc string) (bool, error) {
		if sees, err := v.sees(proc); sees || err != nil {
			return sees, err
		}
		return holds(proc, dev)
	})
}

// find looks at all processes, some at a time: others may stand still until it is done.
func find(is func(proc string) (bool, error)) ([]Process, error) {
	all, err := list("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	var next atomic.Int64
	var work sync.WaitGroup
	var mu sync.Mutex
	var found []Process
	var hidden error
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				p, err := look(all[i], is)
				mu.Lock()
				if p != nil {
					found = append(found, *p)
				}
				hidden = cmp.Or(hidden, err)
				mu.Unlock()
			}
		})
	}
	work.Wait()
	slices.SortFunc(found, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return found, hidden
}

// look returns the process of a name in /proc if it is one, and one that is sought.
func look(name string, is func(proc string) (bool, error)) (*Process, error) {
	pid, err := strconv.Atoi(name)
	if err != nil {
		return nil, nil
	}
	proc := "/proc/" + name
	ok, err := is(proc)
	// A process that is just ending may be looked at by nobody.
	for try := 0; errors.Is(err, fs.ErrPermission) && pid != initPID && try < endingTries; try++ {
		time.Sleep(endingWait)
		ok, err = is(proc)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || err != nil && (pid == initPID || ended(proc)):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for processes: %w", err)
	case !ok:
		return nil, nil
	}
	comm, _ := os.ReadFile(proc + "/comm")
	return &Process{pid, strings.TrimSpace(string(comm))}, nil
}

// How long it is waited for a process that may not be looked at to be gone.
const (
	endingTries = 5
	endingWait  = 4 * time.Millisecond
)

// ended reports whether a process is gone, or waits only for its parent to hear of it (proc_pid_stat(5)).
func ended(proc string) bool {
	b, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

// holds reports whether a process has something of a device open, mapped or as a directory of its own.
func holds(proc string, dev uint64) (bool, error) {
	on := func(link string) bool {
		d, _, err := identify(link)
		return err == nil && d == dev
	}
	if on(proc+"/cwd") || on(proc+"/root") {
		return true, nil
	}
	fds, err := list(proc + "/fd")
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(fds, func(fd string) bool { return on(proc + "/fd/" + fd) }) {
		return true, nil
	}
	return mapped(proc+"/maps", dev)
}

func mapped(maps string, dev uint64) (bool, error) {
	f, err := os.Open(maps)
	if err != nil {
		return false, err
	}
	defer f.Close()
	want := fmt.Appendf(nil, "%02x:%02x", unix.Major(dev), unix.Minor(dev))
	s := bufio.NewScanner(f)
	for s.Scan() {
		if fields := bytes.Fields(s.Bytes()); len(fields) > 4 && bytes.Equal(fields[3], want) {
			return true, nil
		}
	}
	return false, s.Err()
}

// identify returns the device and inode of what a path leads to. It asks no server of a network file system, which
// might never answer.
func identify(path string) (dev, ino uint64, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_INO, &st); err != nil {
		return 0, 0, err
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, nil
}

func list(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
