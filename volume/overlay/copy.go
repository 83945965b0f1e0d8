package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

// copyLower copies the base into the mount's own directory, once, and returns where it is. The copy appears when
// it is complete and on the disk. It is out of reach for other users: unlike the mount, the disk below it may let
// programs of the base take their owner's rights. What there is no room for is not kept in part.
func copyLower(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) (string, error) {
	closed := filepath.Join(dir, copyDir)
	lower, fresh := filepath.Join(closed, "base"), filepath.Join(closed, "base.fresh")
	if _, err := os.Lstat(lower); !errors.Is(err, fs.ErrNotExist) {
		return lower, err
	}
	size, err := checkCopy(ctx, base)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(closed, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := checkRoom(closed, size); err != nil {
		return "", err
	}
	report, err := restorer.Restore(ctx, base, "", fresh, restorer.Options{Foreign: o.Foreign, Delete: true})
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return "", errors.Join(fmt.Errorf("copy: %w\n%s", err, roomHint), os.RemoveAll(fresh))
	}
	if err != nil {
		return "", fmt.Errorf("copy: %w", err)
	}
	for _, omitted := range report.Omitted {
		if !omitted.Foreign {
			return "", fmt.Errorf("copy: %s of %d files cannot be had on the file system of %s: %w",
				omitted.Kind, omitted.Count, dir, unix.ENOTSUP)
		}
	}
	if err := os.Rename(fresh, lower); err != nil {
		return "", err
	}
	return lower, syncfs(dir)
}

// roomHint says what to do where a base does not fit.
const roomHint = "lower=full copies all of it; set lower=lazy, which copies nothing, or make room, perhaps with `volary gc`"

// checkRoom refuses to begin a copy that cannot be completed and would take the room of others meanwhile.
func checkRoom(dir string, size uint64) error {
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return err // some of it is there already
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
	default:
		return nil // it may store less than is written
	}
	if free := st.Bavail * uint64(st.Bsize); free < size {
		return fmt.Errorf("copy %s, where %s are free: %w\n%s", humanize.IBytes(size), humanize.IBytes(free), unix.ENOSPC, roomHint)
	}
	return nil
}

// checkCopy refuses to copy what overlayfs would take for marks of its own, which a view escapes. It returns how many bytes
// a copy takes at least.
func checkCopy(ctx context.Context, base *tree.Snapshot) (size uint64, err error) {
	var holes uint64
	for e, err := range base.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			return 0, err
		}
		xs, err := base.Xattrs(ctx, e.Entry)
		if err != nil {
			return 0, err
		}
		bad := isWhiteout(e.Entry)
		for _, x := range xs {
			bad = bad || strings.HasPrefix(x.Name, xattrPrefix)
		}
		if bad {
			return 0, fmt.Errorf("%q is of an overlay itself, which a copied base cannot have: %w\nuse lower=lazy", e.Path, volume.ErrInvalid)
		}
		if e.Sparse {
			holes += e.Size
		} else if e.Type == meta.File {
			size += e.Size
		}
	}
	if base.HardlinksCID().Defined() { // a file was counted once for each of its names
		once := base.Commit.Stats.Bytes
		size = min(size, once-min(once, holes))
	}
	return size, nil
}
