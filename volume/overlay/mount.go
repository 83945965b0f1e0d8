package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
)

// Inside the directory of an overlay mount.
const (
	layersDir = "layers"            // what of the mount is on the disk; a snapshot is made of it
	upperDir  = "upper"             // in layers: the changes
	workDir   = "work"              // in layers: overlayfs' own
	freshDir  = upperDir + ".fresh" // in layers: an upper that is being made
	closedDir = "closed"            // only root may enter: what the mount does not show is not to be read beside it
	lowerDir  = closedDir + "/base" // where the base is mounted
	copyDir   = "copied"            // has the base, if it was copied
	mergedDir = "merged"            // where both are mounted
)

// Lower makes snapshots visible as directories. Mount of a dir where the same snapshot is mounted already, by
// this process or one before it, takes the mount over. Unmount is no error where nothing is mounted; it wraps
// [volume.ErrInUse] if the mount is still there, out of sight.
//
// Resume is Mount of what is mounted already, and nothing otherwise: it reports whether the snapshot can be read at dir.
type Lower interface {
	Resume(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) (alive bool, err error)
	Mount(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) error
	Unmount(ctx context.Context, dir string) error
	Refuse(ctx context.Context, dir string) error
}

// Mounter is the [volume.Mounter] of the kernel's overlayfs. It needs root.
type Mounter struct{ lower Lower }

var (
	_ volume.Mounter      = (*Mounter)(nil)
	_ volume.Salvager     = (*Mounter)(nil)
	_ volume.ChangeTeller = (*Mounter)(nil)
	_ volume.UseFinder    = (*Mounter)(nil)
	_ volume.Limiter      = (*Mounter)(nil)
	_ volume.Enforcer     = (*Mounter)(nil)
	_ volume.Refuser      = (*Mounter)(nil)
	_ volume.Follower     = (*Mounter)(nil)
)

// New returns a mounter whose lower layers lower makes.
func New(lower Lower) *Mounter { return &Mounter{lower} }

// Path implements [volume.Mounter].
func (m *Mounter) Path(dir string) string { return filepath.Join(dir, mergedDir) }

// Mount implements [volume.Mounter].
func (m *Mounter) Mount(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) error {
	merged := m.Path(dir)
	for _, d := range []string{filepath.Join(dir, closedDir), filepath.Join(dir, lowerDir)} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	mounted, err := m.stillMounted(ctx, base, dir, o)
	switch {
	case err != nil:
		return err
	case mounted && o.ReadOnly:
		return restrict(merged, o)
	case mounted:
		return makeSpace(dir, o)
	}
	lower, err := m.prepareLower(ctx, base, dir, o)
	if err != nil {
		return fmt.Errorf("mount the base: %w", err)
	}
	if err := checkFree(ctx, dir); err != nil {
		return err
	}
	if o.ReadOnly {
		return onto(merged, func() error { return bindReadOnly(lower, merged, o) })
	}
	if err := makeSpace(dir, o); err != nil {
		return err
	}
	if err := prepareLayers(ctx, base, filepath.Join(dir, layersDir)); err != nil {
		return fmt.Errorf("prepare the directory for changes: %w", err)
	}
	if err := onto(merged, func() error { return mountOverlay(dir, lower, o) }); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// Refuse implements [volume.Refuser].
func (m *Mounter) Refuse(ctx context.Context, dir string) error {
	return m.lower.Refuse(ctx, filepath.Join(dir, lowerDir))
}

// follower is what a [Lower] is beyond that if it can show another snapshot where one is shown; see [volume.Follower].
type follower interface {
	Follow(ctx context.Context, s *tree.Snapshot, dir string) ([]cid.Cid, error)
}

// Follow implements [volume.Follower].
func (m *Mounter) Follow(ctx context.Context, s *tree.Snapshot, dir string) ([]cid.Cid, error) {
	f, ok := m.lower.(follower)
	if !ok {
		return nil, errors.New("what is mounted cannot show another snapshot")
	}
	return f.Follow(ctx, s, filepath.Join(dir, lowerDir))
}

// onto makes the directory that something is mounted on. It is there only as long as something is: what is written to
// it meanwhile would be neither in the mount nor in a commit. One with files in it is refused.
func onto(merged string, mount func() error) error {
	if err := takeAway(merged); err != nil {
		return err
	}
	if err := os.Mkdir(merged, 0o000); err != nil {
		return err
	}
	if err := mount(); err != nil {
		return errors.Join(err, takeAway(merged))
	}
	return nil
}

// takeAway removes the empty directory that nothing is mounted on any more.
func takeAway(merged string) error {
	err := unix.Rmdir(merged)
	if err == unix.ENOTEMPTY {
		return fmt.Errorf("%s has files that were written while nothing was mounted there: %w\nmove them away, then try again", merged, err)
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", merged, err)
	}
	return nil
}

// Unmount implements [volume.Mounter]. While something of the overlay can still be written to, by whatever way,
// it is in use: its changes would be committed and deleted under who writes.
func (m *Mounter) Unmount(ctx context.Context, dir string) error {
	merged, lower := m.Path(dir), filepath.Join(dir, lowerDir)
	mounted, err := mounts.IsPoint(merged)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if mounted {
		elsewhere, err := staying(ctx, merged, lower)
		if err != nil {
			return err
		}
		if len(elsewhere) > 0 {
			return fmt.Errorf("%w at another place: %s", volume.ErrInUse, strings.Join(elsewhere, ", "))
		}
	}
	if err := unmount(ctx, merged); err != nil {
		if err == unix.EBUSY {
			return fmt.Errorf("%w by %s", volume.ErrInUse, strings.Join(Holders(merged), ", "))
		}
		return fmt.Errorf("unmount %s: %w", merged, err)
	}
	if err := checkFree(ctx, dir); err != nil {
		return err
	}
	if err := takeAway(merged); err != nil {
		return err
	}
	if err := unmount(ctx, filepath.Join(dir, layersDir)); err != nil {
		return fmt.Errorf("unmount memory for changes: %w", err)
	}
	return m.lower.Unmount(ctx, lower)
}

// prepareLower makes the base visible, as a view or as a copy, and returns where.
func (m *Mounter) prepareLower(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) (string, error) {
	if o.Full {
		return copyLower(ctx, base, dir, o)
	}
	lower := filepath.Join(dir, lowerDir)
	return lower, m.lower.Mount(ctx, base, lower, o)
}

// Snapshot implements [volume.Mounter]. The first sync of the upper's file system lets a later change show in
// the stamps of what is read; the second makes durable what was read, so that a power cut does not undo in
// upper what the snapshot has.
func (m *Mounter) Snapshot(ctx context.Context, s volume.Session, base *tree.Snapshot, dir string, o importer.Options) (*snapshot.Commit, []string, error) {
	dir = filepath.Join(dir, layersDir)
	if _, err := os.Stat(filepath.Join(dir, upperDir)); errors.Is(err, fs.ErrNotExist) {
		// Never mounted: nothing was changed.
		c := *base.Commit
		return &c, nil, nil
	}
	if err := syncfs(dir); err != nil {
		return nil, nil, err
	}
	o.Exclude = layerPatterns(o.Exclude)
	raw, unsettled, err := readLayers(ctx, s, dir, o)
	if err != nil {
		return nil, nil, err
	}
	layers, err := tree.OpenCommit(ctx, s, raw)
	if err != nil {
		return nil, nil, err
	}
	c, err := Merge(ctx, s, base, layers)
	if err != nil {
		return nil, nil, err
	}
	c.Import = raw.Import
	return c, unsettled, syncfs(dir)
}

// Salvage implements [volume.Salvager]: the commit is of the upper directory, with the kernel's marks in it.
func (m *Mounter) Salvage(ctx context.Context, s volume.Session, dir string, o importer.Options) (*snapshot.Commit, []string, error) {
	upper := filepath.Join(dir, layersDir, upperDir)
	if _, err := os.Lstat(upper); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	res, err := importer.Import(ctx, s, upper, o)
	if err != nil {
		return nil, nil, err
	}
	return res.Commit, res.Unsettled, syncfs(dir)
}

// inUpper turns paths in layers into paths in the volume.
func inUpper(paths []string) (rel []string) {
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, upperDir+"/"); ok {
			rel = append(rel, rest)
		}
	}
	return rel
}

// layerPatterns turns patterns for the volume into patterns for its layers.
func layerPatterns(patterns []string) []string {
	out := []string{"/" + workDir + "/" + workDir}
	for _, p := range patterns {
		negated := ""
		if rest, ok := strings.CutPrefix(p, "!"); ok {
			negated, p = "!", rest
		}
		if strings.Contains(strings.TrimSuffix(p, "/"), "/") {
			p = "/" + upperDir + "/" + strings.TrimPrefix(p, "/")
		} else {
			p = "/" + upperDir + "/**/" + p
		}
		out = append(out, negated+p)
	}
	return out
}
