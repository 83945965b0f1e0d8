package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopTime is how long a daemon gets to end by itself.
const stopTime = 10 * time.Second

// Daemon is one server's process. Its methods are safe for concurrent use.
type Daemon struct {
	Name string // such as "kubo 2"
	Log  string // the file that has what it prints

	path  string
	args  []string
	env   []string
	spawn func(*exec.Cmd) error

	mu sync.Mutex
	id identity
}

// identity tells a process from a later one of the same number.
type identity struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // in clock ticks since boot, proc(5)
}

// Start runs the daemon, which must not run. It does not wait for it to be ready.
func (d *Daemon) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.path, d.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, log, log
	if err := d.spawn(cmd); err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	started, err := startTime(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	d.id = identity{cmd.Process.Pid, started}
	// Its status says nothing that the log does not say; it is waited for so that it does not stay a zombie.
	go func() { _ = cmd.Wait() }()
	return nil
}

// Kill ends the daemon at once, and returns when it is gone.
func (d *Daemon) Kill() error { return d.end(syscall.SIGKILL) }

// Stop asks the daemon to end, and returns when it is gone. One that is frozen, or takes too long, is killed.
func (d *Daemon) Stop() error { return errors.Join(d.end(syscall.SIGTERM), d.end(syscall.SIGKILL)) }

// Freeze stops the daemon where it stands: its connections stay, and nobody answers.
func (d *Daemon) Freeze() error { return d.signal(syscall.SIGSTOP) }

// Thaw lets a frozen daemon go on.
func (d *Daemon) Thaw() error { return d.signal(syscall.SIGCONT) }

// end sends a signal and waits until the process is gone, or stopTime is over.
func (d *Daemon) end(sig syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fd, err := d.open()
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end %s: %w", d.Name, err)
	}
	gone := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for until := time.Now().Add(stopTime); ; {
		n, err := unix.Poll(gone, int(max(time.Until(until), 0)/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 1 {
			d.id = identity{}
		} else if err == nil && sig == syscall.SIGKILL {
			err = fmt.Errorf("%s is still there %s after it was killed", d.Name, stopTime)
		}
		return err
	}
}

func (d *Daemon) signal(sig syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fd, err := d.open()
	if err != nil {
		return err
	}
	if fd < 0 {
		return fmt.Errorf("%s does not run", d.Name)
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// open returns a descriptor of the running process, or -1 if there is none. The caller holds mu.
func (d *Daemon) open() (int, error) {
	if d.id.PID == 0 {
		return -1, nil
	}
	fd, err := unix.PidfdOpen(d.id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d of %s: %w", d.id.PID, d.Name, err)
	}
	if started, err := startTime(d.id.PID); err != nil || started != d.id.Started {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// running tells whether the process is there and no zombie.
func (d *Daemon) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	fd, err := d.open()
	if err != nil || fd < 0 {
		return false
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0
}

// startTime is when a process began, proc_pid_stat(5).
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may have anything in it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const starttime = 22 - 3 // the first field after the name is the third
	if len(fields) <= starttime {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	return strconv.ParseUint(fields[starttime], 10, 64)
}

// logEnd is the last lines of the log, for an error.
func (d *Daemon) logEnd() string {
	text, err := os.ReadFile(d.Log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// waitFor calls ready until it returns nil.
func (d *Daemon) waitFor(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if !d.running() {
			return fmt.Errorf("%s ended: %w\n%s", d.Name, err, d.logEnd())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w)\n%s", d.Name, err, ctx.Err(), d.logEnd())
		case <-tick.C:
		}
	}
}
