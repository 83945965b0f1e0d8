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

	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

// copyLower copies the base into the mount's own directory, once, and returns where it is. The copy appears when
// it is complete and on the disk. It is out of reach for other users: unlike the mount, the disk below it may let
// programs of the base take their owner's rights.
func copyLower(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) (string, error) {
	closed := filepath.Join(dir, copyDir)
	lower, fresh := filepath.Join(closed, "base"), filepath.Join(closed, "base.fresh")
	if _, err := os.Lstat(lower); !errors.Is(err, fs.ErrNotExist) {
		return lower, err
	}
	if err := checkCopy(ctx, base); err != nil {
		return "", err
	}
	if err := os.Mkdir(closed, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	report, err := restorer.Restore(ctx, base, "", fresh, restorer.Options{Foreign: o.Foreign, Delete: true})
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

// checkCopy refuses to copy what overlayfs would take for marks of its own. A view escapes it.
func checkCopy(ctx context.Context, base *tree.Snapshot) error {
	for e, err := range base.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			return err
		}
		xs, err := base.Xattrs(ctx, e.Entry)
		if err != nil {
			return err
		}
		bad := isWhiteout(e.Entry)
		for _, x := range xs {
			bad = bad || strings.HasPrefix(x.Name, xattrPrefix)
		}
		if bad {
			return fmt.Errorf("%q is of an overlay itself, which a copied base cannot have: %w\nuse lower=lazy", e.Path, volume.ErrInvalid)
		}
	}
	return nil
}
