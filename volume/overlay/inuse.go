package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
	"github.com/volary/volary/volume/procs"
)

// A service or a container that starts has a copy of all mounts until it has put those away that it does not want.
// So long is waited for one to go.
const (
	patience = 500 * time.Millisecond
	lookEach = 25 * time.Millisecond
)

// settled asks until the answer is no, or the time is up, and once after that.
func settled(ctx context.Context, ask func() (bool, error)) (bool, error) {
	for end := time.Now().Add(patience); ; {
		over := time.Now().After(end)
		if yes, err := ask(); !yes || err != nil || over {
			return yes, err
		}
		select {
		case <-time.After(lookEach):
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// staying names the places at which a mount stays visible when it is unmounted, and its lower layer with it; in
// this namespace or in another. It counts even if nobody has a file of it open: a container that the volume was
// bound into, or a shell in a copied namespace, can open one at any time, and the mount ends only with the last
// process there. Mounts in namespaces without processes are not found; checkFree finds them.
func staying(ctx context.Context, mount, lower string) (names []string, err error) {
	var below []string // the same if it is the lower layer alone that the mount shows
	if mounted, err := mounts.IsPoint(lower); err == nil && mounted {
		below = []string{lower}
	}
	_, err = settled(ctx, func() (bool, error) {
		found, err := procs.Staying(mount, below...)
		if errors.Is(err, fs.ErrPermission) {
			err = nil // who may not be looked at cannot be named; checkFree knows
		}
		names = nil
		for _, m := range found {
			names = append(names, m.String())
		}
		return len(names) > 0, err
	})
	return names, err
}

// Used implements [volume.UseFinder].
func (m *Mounter) Used(_ context.Context, dir string) (bool, error) {
	merged := m.Path(dir)
	if mounted, err := mounts.IsPoint(merged); !mounted || err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	dev, err := device(merged)
	if err != nil {
		return false, err
	}
	found, err := procs.Using(dev)
	return len(found) > 0, err
}

// holding names the processes that have something of a mount open. Those that may not be looked at are left out.
func holding(mount string) ([]string, error) {
	dev, err := device(mount)
	if err != nil {
		return nil, err
	}
	found, err := procs.Holding(dev)
	if errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	names := make([]string, len(found))
	for i, p := range found {
		names[i] = p.String()
	}
	slices.Sort(names)
	return names, err
}

// device returns the number of the device that is mounted, without asking its server.
func device(mount string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, mount, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", mount, err)
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

// checkFree reports an error if an overlay that is not mounted at its path any more still has the upper of a
// directory. It asks the kernel, which knows also of what no process shows: a mount in a namespace without
// processes, a file on its way through a socket, a loop device.
func checkFree(ctx context.Context, dir string) error {
	taken, err := settled(ctx, func() (bool, error) { return upperTaken(dir) })
	if err != nil {
		return fmt.Errorf("look whether %s is in use: %w", dir, err)
	}
	if taken {
		return fmt.Errorf("%w out of sight, by a file that is open or a mount in another namespace\n"+
			"its changes are kept: end the processes or containers that used it, and try again", volume.ErrInUse)
	}
	return nil
}

// scratch makes directories for a moment: on a disk, or in memory.
type scratch func() (path string, forget func(), err error)

func onDisk(dir string) scratch {
	return func() (string, func(), error) {
		path, err := os.MkdirTemp(dir, "probe.")
		return path, func() { os.RemoveAll(path) }, err
	}
}

func inMemory() (path string, forget func(), err error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return "", nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() { unix.Close(fd) }, nil
}

// upperTaken makes an overlay, mounted nowhere, whose lower layer is the upper. With index=on the kernel refuses that
// if another overlay has the upper as its own.
func upperTaken(dir string) (bool, error) {
	taken, err := takenBeside(dir, onDisk(dir))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return takenBeside(dir, inMemory)
	}
	return taken, err
}

// takenBeside is upperTaken with a place for the overlay's own directories.
func takenBeside(dir string, place scratch) (bool, error) {
	upper, err := os.Open(filepath.Join(dir, layersDir, upperDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer upper.Close()
	own, forget, err := place()
	if err != nil {
		return false, err
	}
	defer forget()
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigSetString(fd, "index", "on"); err != nil {
		return false, fmt.Errorf("fsconfig index: %w", err)
	}
	layers := map[string]*os.File{"lowerdir": upper}
	for _, option := range []string{"upperdir", "workdir"} {
		path := filepath.Join(own, option)
		if err := os.Mkdir(path, 0o700); err != nil {
			return false, err
		}
		if layers[option], err = os.Open(path); err != nil {
			return false, err
		}
		defer layers[option].Close()
	}
	for option, d := range layers {
		if err := unix.FsconfigSetString(fd, option, fmt.Sprintf("/proc/self/fd/%d", d.Fd())); err != nil {
			return false, fmt.Errorf("fsconfig %s: %w", option, err)
		}
	}
	switch err := unix.FsconfigCreate(fd); err {
	case nil:
		return false, nil
	case unix.EBUSY:
		return true, nil
	default:
		return false, fmt.Errorf("fsconfig create: %w", err)
	}
}
