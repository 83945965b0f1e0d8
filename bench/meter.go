package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what one step cost.
type usage struct {
	Plain   time.Duration // until the command had ended
	Durable time.Duration // until all of it was on disk as well
	CPU     time.Duration // user and system, daemons included
	Memory  int64         // bytes, the sum of the peaks of command and daemon
}

// meter measures steps on one file system.
type meter struct {
	root  *os.File // a directory of the file system that everything is written to
	floor int64    // bytes; a command's peak of memory below it could not be seen
}

func newMeter(dir string) (*meter, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &meter{root: f}, nil
}

func (m *meter) Close() error { return m.root.Close() }

// Measure runs step and then syncs the file system, so that no contender gains by leaving pages for others to
// write. All pages that were dirty before are written first, outside of the measured time.
func (m *meter) Measure(step func() error) (usage, error) {
	unix.Sync()
	start := time.Now()
	if err := step(); err != nil {
		return usage{}, err
	}
	u := usage{Plain: time.Since(start)}
	if err := unix.Syncfs(int(m.root.Fd())); err != nil {
		return usage{}, fmt.Errorf("sync %s: %w", m.root.Name(), err)
	}
	u.Durable = time.Since(start)
	return u, nil
}

// Run measures one command and returns what it printed. Its memory is the kernel's peak resident size, which
// also counts what this process has at the moment it forks; so that is made small before.
func (m *meter) Run(cmd *exec.Cmd) (string, usage, error) {
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	debug.FreeOSMemory()
	if err := resetPeak(os.Getpid()); err != nil {
		return "", usage{}, err
	}
	u, err := m.Measure(cmd.Run)
	if err != nil {
		return "", usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(stderr.String()))
	}
	own, err := peakMemory(os.Getpid())
	if err != nil {
		return "", usage{}, err
	}
	m.floor = max(m.floor, own)
	u.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	u.Memory = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	return strings.TrimSpace(stdout.String()), u, nil
}

// resetPeak makes a process's peak of memory start anew (proc_pid_clear_refs(5)).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// peakMemory is a process's peak of memory in bytes since the last reset.
func peakMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("read VmHWM of process %d: %w", pid, err)
	}
	return kib << 10, nil
}

// command is a command that is killed when ctx ends.
func command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// quietly runs what is not measured and returns what it printed.
func quietly(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// tail is the end of what a command complained about.
func tail(s string) string {
	const most = 2000
	if len(s) > most {
		s = "..." + s[len(s)-most:]
	}
	return strings.TrimSpace(s)
}

// environment is a small one: a contender finds nothing of the user's, and leaves nothing outside of home.
func environment(home string, more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LC_ALL=C"}, more...)
}
