package procs

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/mounts"
)

// view is what processes of one mount namespace with one root directory see.
type view struct {
	namespace string
	dev, ino  uint64 // of the root directory
}

// views knows in which views a device is mounted.
type views struct {
	device string // as in mountinfo
	own    view
	points map[string]bool // where the device is mounted in own

	mu   sync.Mutex
	seen map[view]bool
}

func newViews(dev uint64) (*views, error) {
	v := &views{device: fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)), seen: map[view]bool{}, points: map[string]bool{}}
	var err error
	if v.own, err = viewOf("/proc/self"); err != nil {
		return nil, err
	}
	points, err := v.mountPoints("/proc/self")
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		v.points[p] = true
	}
	return v, nil
}

func viewOf(proc string) (w view, err error) {
	if w.namespace, err = os.Readlink(proc + "/ns/mnt"); err != nil {
		return w, err
	}
	w.dev, w.ino, err = identify(proc + "/root")
	return w, err
}

// sees reports whether a process of another namespace sees the device otherwise than this one does.
func (v *views) sees(proc string) (bool, error) {
	w, err := viewOf(proc)
	if err != nil || w.namespace == v.own.namespace {
		return false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if sees, known := v.seen[w]; known {
		return sees, nil
	}
	points, err := v.mountPoints(proc)
	if err != nil {
		return false, err
	}
	sameRoot := w.dev == v.own.dev && w.ino == v.own.ino
	sees := false
	for _, p := range points {
		sees = sees || !sameRoot || !v.points[p]
	}
	v.seen[w] = sees
	return sees, nil
}

// mountPoints lists where a process sees the device.
func (v *views) mountPoints(proc string) (points []string, _ error) {
	all, err := mounts.Of(proc)
	for _, m := range all {
		if m.Device == v.device {
			points = append(points, m.Point)
		}
	}
	return points, err
}
