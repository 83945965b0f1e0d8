package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
	"github.com/volary/volary/volume/quota"
)

// makeSpace makes the directory that changes go to, on the disk or in memory, and limits it if it is asked to, as far
// as its file system can do that; or it changes the limit of one that is in use.
func makeSpace(dir string, o volume.MountOptions) error {
	layers := filepath.Join(dir, layersDir)
	if err := os.Mkdir(layers, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if o.Tmpfs {
		if err := mountTmpfs(layers, o.Size); err != nil {
			return fmt.Errorf("mount memory for changes: %w", err)
		}
		return nil
	}
	if err := quota.Limit(layers, o.Size); err != nil && !errors.Is(err, quota.ErrUnsupported) {
		return fmt.Errorf("limit the changes: %w", err)
	}
	return nil
}

// mountTmpfs mounts memory at a path, or changes how much there may be of what is mounted.
func mountTmpfs(path string, size uint64) error {
	mounted, err := mounts.IsPoint(path)
	if err != nil {
		return err
	}
	limit := "size=50%" // the kernel's own, tmpfs(5)
	if size > 0 {
		limit = fmt.Sprintf("size=%d", size)
	}
	if mounted {
		err := unix.Mount("", path, "", unix.MS_REMOUNT, limit)
		if err == unix.EINVAL { // there is more in it; then no more than that
			var st unix.Statfs_t
			if err := unix.Statfs(path, &st); err != nil {
				return err
			}
			limit = fmt.Sprintf("size=%d", max(1, st.Blocks-st.Bfree)*uint64(st.Bsize))
			err = unix.Mount("", path, "", unix.MS_REMOUNT, limit)
		}
		return err
	}
	return unix.Mount("volary", path, "tmpfs", 0, "mode=700,"+limit)
}

// Space implements [volume.Limiter]. Where the file system does not count what changes take, they are counted.
func (m *Mounter) Space(ctx context.Context, dir string) (volume.Space, error) {
	layers := filepath.Join(dir, layersDir)
	var st unix.Statfs_t
	if err := unix.Statfs(layers, &st); errors.Is(err, fs.ErrNotExist) {
		return volume.Space{}, nil
	} else if err != nil {
		return volume.Space{}, fmt.Errorf("space of %s: %w", layers, err)
	}
	if mounted, err := mounts.IsPoint(layers); err != nil || mounted {
		return volume.Space{Used: (st.Blocks - st.Bfree) * uint64(st.Bsize), Enforced: true}, err
	}
	switch u, err := quota.Read(layers); {
	case err == nil:
		return volume.Space{Used: u.Used, Enforced: u.Limit > 0}, nil
	case !errors.Is(err, quota.ErrUnsupported):
		return volume.Space{}, err
	}
	used, err := count(ctx, layers)
	return volume.Space{Used: used}, err
}

// Enforces implements [volume.Enforcer].
func (m *Mounter) Enforces(dir string) (limited bool, err error) {
	layers := filepath.Join(dir, layersDir)
	if limited, err = mounts.IsPoint(layers); err == nil && !limited {
		var u quota.Usage
		u, err = quota.Read(layers)
		limited = u.Limit > 0
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = quota.Supported(dir)
		limited = err == nil
	}
	if errors.Is(err, quota.ErrUnsupported) {
		err = nil
	}
	return limited, err
}

// Release implements [volume.Limiter].
func (m *Mounter) Release(dir string) error {
	return quota.Release(filepath.Join(dir, layersDir))
}

// count adds up what files take on the disk; those with several names once.
func count(ctx context.Context, dir string) (used uint64, _ error) {
	type file struct{ dev, ino uint64 }
	seen := map[file]bool{}
	err := eachFile(ctx, dir, func(_ string, st *syscall.Stat_t) {
		if st.Nlink > 1 && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			f := file{st.Dev, st.Ino}
			if seen[f] {
				return
			}
			seen[f] = true
		}
		used += uint64(st.Blocks) * 512
	})
	if err != nil {
		return 0, fmt.Errorf("count what changes take: %w", err)
	}
	return used, nil
}
