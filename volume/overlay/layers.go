package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
)

// prepareLayers makes an upper and a work directory, if there are none yet. The upper appears complete, under
// its name, or not at all: without the stubs of an earlier beginning hardlinks would be forgotten.
func prepareLayers(ctx context.Context, base *tree.Snapshot, layers string) error {
	upper := filepath.Join(layers, upperDir)
	if err := os.MkdirAll(filepath.Join(layers, workDir), 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(upper); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := filepath.Join(layers, freshDir)
	if err := makeStubs(ctx, base, fresh); err != nil {
		return fmt.Errorf("the snapshot %s: %w", base.CID, err)
	}
	if err := syncfs(layers); err != nil {
		return err
	}
	if err := os.Rename(fresh, upper); err != nil {
		return err
	}
	return syncfs(layers)
}

// dropACL takes away what a new directory got from the one it is in.
func dropACL(dir string) error {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		if err := unix.Removexattr(dir, name); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return fmt.Errorf("remove %s of %s: %w", name, dir, err)
		}
	}
	return nil
}
