// Package zombie finds processes that were killed and cannot end.
//
// Start with [Locking]. A killed process ends once each of its threads has left its system call, and until then keeps
// its locks. A thread that looks a name up in a directory which somebody else has locked, who waits for that very
// process, never leaves it.
//
// It guarantees: of a process that is [Process.Harmless], no instruction is run ever again, and no system call is under
// way that writes to a file, renames it or removes it.
package zombie

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process at one time: another one that gets its number later is not taken for it.
type Process struct {
	PID   int
	start string // in the kernel's clock ticks since boot
}

func (p Process) String() string { return "process " + strconv.Itoa(p.PID) }

// Find returns the process of a number. The error wraps [fs.ErrNotExist] if there is none.
func Find(pid int) (Process, error) {
	start, err := startOf(pid)
	return Process{pid, start}, err
}

func startOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", noProcess(err)
	}
	return field(b, 22)
}

// field is one of /proc/…/stat, counted from 1 as in proc_pid_stat(5). The name, in parentheses, may have anything in
// it, and what follows it begins with 3.
func field(stat []byte, n int) (string, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= n-3 {
		return "", fmt.Errorf("no field %d in stat of a process: %q", n, stat)
	}
	return fields[n-3], nil
}

// noProcess makes one error of those that reading in /proc gives while a process ends.
func noProcess(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// Locking returns the processes that hold an flock on a file, which are several where one forked and has not called
// exec yet. Only root sees all of them; those that see the file by another path are found if they locked it themselves.
func Locking(file string) ([]Process, error) {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("who locks %s: %w", path, err)
	}
	locked, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, err
	}
	lockers := flockers(string(locked), st.Ino)
	all, err := numbers("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, pid := range all {
		holds, err := locks(pid, path, st.Ino, slices.Contains(lockers, pid))
		if errors.Is(err, fs.ErrNotExist) || !holds && err == nil {
			continue
		}
		p, startErr := Find(pid)
		if err = errors.Join(err, startErr); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("who locks %s: %w", path, err)
		}
		found = append(found, p)
	}
	return found, nil
}

// numbers are the entries of a directory that are processes or threads.
func numbers(dir string) (all []int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, noProcess(err)
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, n)
		}
	}
	return all, nil
}

// locks looks at the files of a process by one of its threads that has not given them up. It never looks at the files
// themselves: who asks a mount that nobody serves waits as well. If all have, a process that locked the file still does:
// it is closing its files as it ends.
func locks(pid int, path string, inode uint64, locker bool) (bool, error) {
	threads, err := numbers(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, err
	}
	for _, tid := range threads {
		dir := fmt.Sprintf("/proc/%d/task/%d", pid, tid)
		fds, err := files(dir)
		if err != nil {
			return false, err
		}
		for _, fd := range fds {
			if at, err := os.Readlink(fmt.Sprintf("%s/fd/%d", dir, fd)); err != nil || at != path {
				continue
			}
			info, err := os.ReadFile(fmt.Sprintf("%s/fdinfo/%d", dir, fd))
			if err == nil && hasFlock(string(info), inode) {
				return true, nil
			}
		}
		// It may have given them up while they were looked at.
		if left, err := files(dir); err != nil || len(left) > 0 {
			return false, err
		}
	}
	return locker, nil
}

// files are the descriptors of a thread, none if it has given them up.
func files(thread string) ([]int, error) {
	fds, err := numbers(thread + "/fd")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return fds, err
}

// hasFlock reads fdinfo (proc_pid_fdinfo(5)): "lock:	1: FLOCK  ADVISORY  WRITE 9513 fe:00:1185 0 EOF".
func hasFlock(info string, inode uint64) bool {
	for line := range strings.Lines(info) {
		if rest, is := strings.CutPrefix(line, "lock:"); is && len(flockers(rest, inode)) > 0 {
			return true
		}
	}
	return false
}

// flockers reads /proc/locks (proc_locks(5)): the processes that locked a file of this number, on whatever file system.
// Lines of those that wait have an arrow after the colon.
func flockers(locks string, inode uint64) (pids []int) {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], ":"+strconv.FormatUint(inode, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Gone reports whether the process has ended, threads included. One that nobody waited for yet is gone.
func (p Process) Gone() bool {
	start, err := startOf(p.PID)
	if err != nil || start != p.start {
		return true
	}
	left, err := p.left()
	return err == nil && len(left) == 0 || errors.Is(err, fs.ErrNotExist)
}

// Wait returns when the process is gone, or with the error of ctx.
func (p Process) Wait(ctx context.Context) error {
	for !p.Gone() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of %s: %w", p, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// thread is what /proc says of one.
type thread struct {
	dir    string
	killed bool // it does not get back to its program
	ending bool // it has left the system call in which it was killed, too
}

// left are the threads that have not ended.
func (p Process) left() (left []thread, err error) {
	ids, err := numbers(fmt.Sprintf("/proc/%d/task", p.PID))
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		t := thread{dir: fmt.Sprintf("/proc/%d/task/%d", p.PID, id)}
		ended, err := t.read()
		if errors.Is(err, fs.ErrNotExist) || err == nil && ended {
			continue
		}
		if err != nil {
			return nil, err
		}
		left = append(left, t)
	}
	return left, nil
}

// read finds out how far a thread is on its way to its end. Killing a process, or one of its threads ending it, sends
// SIGKILL to each thread, which is pending until the thread begins to end, and a moment less. To a process that was
// killed it is pending to the end.
func (t *thread) read() (ended bool, err error) {
	status, err := os.ReadFile(t.dir + "/status")
	if err != nil {
		return false, noProcess(err)
	}
	// Read after the status: a thread that takes the signal in between is ending now.
	stat, err := os.ReadFile(t.dir + "/stat")
	if err != nil {
		return false, noProcess(err)
	}
	state, err := field(stat, 3)
	if err != nil {
		return false, err
	}
	if t.ending, err = isEnding(stat); err != nil {
		return false, err
	}
	t.killed = t.ending || killPending(string(status))
	return state == "Z" || state == "X", nil
}

// isEnding reads stat of a thread.
func isEnding(stat []byte) (bool, error) {
	const exiting = 0x4 // PF_EXITING of linux/sched.h
	s, err := field(stat, 9)
	if err != nil {
		return false, err
	}
	flags, err := strconv.ParseUint(s, 10, 64)
	return flags&exiting != 0, err
}

// killPending reads the status of a thread: whether it has been sent SIGKILL, or its process has.
func killPending(status string) bool {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		pending, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && pending&(1<<(unix.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// Killed reports whether the process was killed, and has not ended. Anybody may ask.
func (p Process) Killed() bool {
	left, err := p.left()
	if err != nil || len(left) == 0 {
		return false
	}
	for _, t := range left {
		if !t.killed {
			return false
		}
	}
	start, err := startOf(p.PID)
	return err == nil && start == p.start
}

var (
	// ErrAlive says that a process may yet do something.
	ErrAlive = errors.New("it may yet do something")
	// ErrUnderWay is ErrAlive of one that was killed, and does no more than end what the kernel does for it.
	ErrUnderWay = fmt.Errorf("that is still under way: %w", ErrAlive)
)

// Harmless returns nil if the process was killed, and each thread that is left is ending or in a system call that changes
// no file. What is under way otherwise is in the error, which wraps ErrAlive, or ErrUnderWay. It needs root.
func (p Process) Harmless() error {
	if !p.Killed() {
		return fmt.Errorf("%s was not killed: %w", p, ErrAlive)
	}
	left, err := p.left()
	if err != nil {
		return err
	}
	for _, t := range left {
		if t.ending {
			continue
		}
		call, err := t.call()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended
		}
		if err != nil {
			return err
		}
		if !call.harmless() {
			return fmt.Errorf("%s was killed in system call %d: %w", p, call.number, ErrUnderWay)
		}
	}
	return nil
}

// Mounting reports whether the process was killed while it mounts or unmounts something, which may still happen.
func (p Process) Mounting() bool {
	left, err := p.left()
	for _, t := range left {
		if c, callErr := t.call(); callErr == nil && !t.ending && (c.number == unix.SYS_MOUNT || c.number == unix.SYS_UMOUNT2) {
			return true
		}
	}
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}
