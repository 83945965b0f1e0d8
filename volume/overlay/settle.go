package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/volume"
)

// maxRounds is how often the layers are read again because directories changed meanwhile.
const maxRounds = 5

// stamp changes whenever an entry of a directory is made, removed or renamed.
type stamp struct {
	ino   uint64
	ctime syscall.Timespec
}

// readLayers imports the layers of a mount, again while directories change: one that was moved meanwhile may
// have been seen in both of its places, or in neither. It returns the paths that did not settle.
func readLayers(ctx context.Context, s volume.Session, dir string, o importer.Options) (*snapshot.Commit, []string, error) {
	before, err := stamps(ctx, filepath.Join(dir, upperDir))
	if err != nil {
		return nil, nil, err
	}
	for round := 1; ; round++ {
		raw, err := importer.Import(ctx, s, dir, o)
		if err != nil {
			return nil, nil, err
		}
		after, err := stamps(ctx, filepath.Join(dir, upperDir))
		if err != nil {
			return nil, nil, err
		}
		changed := differing(before, after)
		if len(changed) == 0 {
			return raw.Commit, inUpper(raw.Unsettled), nil
		}
		if round == maxRounds {
			return raw.Commit, slices.Compact(slices.Sorted(slices.Values(append(inUpper(raw.Unsettled), changed...)))), nil
		}
		before = after
	}
}

// stamps are those of a directory and all directories below it, by path.
func stamps(ctx context.Context, dir string) (map[string]stamp, error) {
	found := map[string]stamp{}
	err := eachFile(ctx, dir, func(rel string, st *syscall.Stat_t) {
		if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			found[rel] = stamp{st.Ino, st.Ctim}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for changed directories: %w", err)
	}
	return found, nil
}

// LastChange implements [volume.ChangeTeller]: the newest stamp of what is in upper. A store through a mapping shows
// once the kernel has written the page.
func (m *Mounter) LastChange(ctx context.Context, dir string) (newest time.Time, _ error) {
	err := eachFile(ctx, filepath.Join(dir, layersDir, upperDir), func(_ string, st *syscall.Stat_t) {
		if t := time.Unix(st.Ctim.Unix()); t.After(newest) {
			newest = t
		}
	})
	return newest, err
}

// eachFile calls see with a directory and all that is below it, as far as it stays there meanwhile; paths are relative
// to the directory.
func eachFile(ctx context.Context, dir string, see func(rel string, st *syscall.Stat_t)) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		var fi os.FileInfo
		if err == nil {
			fi, err = os.Lstat(path)
		}
		if passed(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			see(rel, fi.Sys().(*syscall.Stat_t))
		}
		return err
	})
}

// differing names the directories that changed, came or went.
func differing(before, after map[string]stamp) []string {
	var paths []string
	for path, s := range after {
		if before[path] != s {
			paths = append(paths, path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// passed reports whether a path is left out here: it went away, or it is deeper than a path can say, which is no
// reason not to commit.
func passed(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG)
}
