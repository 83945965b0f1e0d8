package freezer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/mounts"
)

// Files of a cgroup (Documentation/admin-guide/cgroup-v2.rst).
const (
	freezeFile = "cgroup.freeze"
	eventsFile = "cgroup.events"
	typeFile   = "cgroup.type"
)

// hierarchy is the cgroup v2 hierarchy. Cgroups are named by paths as in proc_pid_cgroup(5).
type hierarchy struct {
	dir  string // where it is mounted
	root string // the cgroup that is mounted there
	own  string // this process's cgroup
}

// findHierarchy looks where cgroup v2 is mounted: beside the hierarchies of version 1 it is not at the usual place.
func findHierarchy() (*hierarchy, error) {
	own, err := cgroupOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	all, err := mounts.Of(mounts.Self)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Type == "cgroup2" {
			return &hierarchy{dir: m.Point, root: m.Root, own: own}, nil
		}
	}
	return nil, errors.New("cgroup v2 is not mounted")
}

// cgroupOf returns the cgroup of a process. The error wraps [fs.ErrNotExist] or ESRCH if the process is gone.
func cgroupOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n"), nil
		}
	}
	return "", errors.New("no cgroup of version 2")
}

// domainOf returns the cgroup in which all threads of a process are.
func (h *hierarchy) domainOf(pid int) (string, error) {
	c, err := cgroupOf(pid)
	for err == nil && c != "/" {
		var kind []byte
		kind, err = os.ReadFile(filepath.Join(h.path(c), typeFile))
		if string(kind) != "threaded\n" {
			break
		}
		c = filepath.Dir(c)
	}
	return c, err
}

// path is where a cgroup's files are.
func (h *hierarchy) path(cgroup string) string {
	rel, err := filepath.Rel(h.root, cgroup)
	if err != nil {
		return filepath.Join(h.dir, cgroup)
	}
	return filepath.Join(h.dir, rel)
}

// obstacle says why a cgroup cannot be frozen, if it cannot.
func (h *hierarchy) obstacle(cgroup string) string {
	switch {
	case strings.HasPrefix(cgroup, "/.."):
		return "in a cgroup outside of this daemon's cgroup namespace"
	case !within(cgroup, h.root):
		return "in a cgroup that this daemon does not have mounted"
	case within(h.own, cgroup) && cgroup == "/":
		return "in the root cgroup"
	case within(h.own, cgroup):
		return "in a cgroup that this daemon is in as well"
	}
	return ""
}

// within reports whether a cgroup is another, or below it.
func within(cgroup, other string) bool {
	return other == "/" || cgroup == other || strings.HasPrefix(cgroup, other+"/")
}

// isSet reports whether somebody asked for a cgroup to be frozen.
func isSet(path string) (bool, error) {
	b, err := os.ReadFile(filepath.Join(path, freezeFile))
	return string(bytes.TrimSpace(b)) == "1", err
}

// isGone tells that a cgroup or process is no more from other errors.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH)
}

// glance is how long a wait for a cgroup goes on without a look at the context.
const glance = 100 * time.Millisecond

// await waits until everything in a cgroup is frozen.
func await(ctx context.Context, path string) error {
	f, err := os.Open(filepath.Join(path, eventsFile))
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 256)
	for {
		n, err := f.ReadAt(b, 0)
		if err != nil && err != io.EOF {
			return err
		}
		if frozenIn(b[:n]) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The kernel notifies when the content changes after it was read.
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(p, int(glance.Milliseconds())); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll %s: %w", f.Name(), err)
		}
	}
}

func isFrozen(path string) (bool, error) {
	b, err := os.ReadFile(filepath.Join(path, eventsFile))
	return frozenIn(b), err
}

func frozenIn(events []byte) bool { return bytes.Contains(events, []byte("frozen 1\n")) }
