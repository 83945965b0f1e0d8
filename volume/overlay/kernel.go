package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
)

// mountOverlay mounts the layers of a directory. The layers are given by descriptors: their paths may have
// characters that mean something in mount options.
func mountOverlay(dir, lower string, o volume.MountOptions) error {
	options := "index=off,metacopy=on,redirect_dir=on,xino=on"
	for _, l := range []struct{ option, path string }{
		{"lowerdir", lower}, {"upperdir", filepath.Join(dir, layersDir, upperDir)}, {"workdir", filepath.Join(dir, layersDir, workDir)},
	} {
		// A descriptor that is only a place: opening the base would ask this process.
		d, err := os.OpenFile(l.path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer d.Close()
		options += fmt.Sprintf(",%s=/proc/self/fd/%d", l.option, d.Fd())
	}
	return unix.Mount("volary", filepath.Join(dir, mergedDir), "overlay", mountFlags(o), options)
}

// bindReadOnly shows a lower layer as it is.
func bindReadOnly(lower, merged string, o volume.MountOptions) error {
	if err := unix.Mount(lower, merged, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", merged, err)
	}
	return restrict(merged, o)
}

// restrict takes from a mount what bindReadOnly gives it and is not to be had. It has to be done again to one that somebody
// made who was killed then: nobody was told of it.
func restrict(merged string, o volume.MountOptions) error {
	return unix.Mount("", merged, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|mountFlags(o), "")
}

func mountFlags(o volume.MountOptions) uintptr {
	if o.Foreign {
		return unix.MS_NOSUID | unix.MS_NODEV
	}
	return 0
}

// unmount takes the mount at a path away. Where there is none is no error. Who looks at it in passing, as df(1) does, is
// waited for.
func unmount(ctx context.Context, path string) (err error) {
	_, _ = settled(ctx, func() (busy bool, _ error) {
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		return err == unix.EBUSY, nil
	})
	if err == unix.EINVAL || err == unix.ENOENT {
		return nil
	}
	return err
}

// stillMounted reports whether something that can be read is mounted. A mount whose lower layer is gone for good is
// taken away, unless it is in use: files that were changed can still be written to, and these writes would be in the way
// of a new mount's. Nothing is looked up in the mount: the answer may be this process's to give, and if it is killed
// while it waits for itself it cannot end.
func (m *Mounter) stillMounted(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) (bool, error) {
	path, lower := m.Path(dir), filepath.Join(dir, lowerDir)
	alive := true // a copy is
	if !o.Full {
		var err error
		if alive, err = m.lower.Resume(ctx, base, lower, o); err != nil {
			return false, fmt.Errorf("go on with the base: %w", err)
		}
	}
	mounted, err := mounts.IsPoint(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !mounted || alive {
		return mounted, err
	}
	users, err := holding(path)
	if err != nil {
		return false, fmt.Errorf("who uses the dead mount at %s: %w", path, err)
	}
	elsewhere, err := staying(ctx, path, lower)
	if err != nil {
		return false, err
	}
	if users = append(users, elsewhere...); len(users) > 0 {
		return false, fmt.Errorf("the mount at %s lost its server, and is in use by %s: %w\nend these processes, then mount it again",
			path, strings.Join(users, ", "), volume.ErrInUse)
	}
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return false, fmt.Errorf("take the dead mount at %s away: %w", path, err)
	}
	return false, nil
}

func syncfs(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}

// Holders names the processes that keep a mount busy, as "name (pid)", for people to read.
func Holders(mount string) []string {
	// Whoever may not be looked at is one more that cannot be named.
	names, _ := holding(mount)
	if len(names) == 0 {
		return []string{"a mount on it in another namespace, or below it"}
	}
	return names
}
