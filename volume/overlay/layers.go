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

	"github.com/volary/volary/snapshot/meta"
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
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := dropACL(fresh); err != nil {
		return err
	}
	s := stubs{base: base, upper: fresh, dirs: map[string]tree.Entry{"": base.Root()}}
	if err := s.make(ctx); err != nil {
		return err
	}
	if err := syncfs(layers); err != nil {
		return err
	}
	if err := os.Rename(fresh, upper); err != nil {
		return err
	}
	return syncfs(layers)
}

// MaxStubs is how many names of hardlinked files are made in a fresh upper. In a base with more of them a write
// by one name parts it from the others.
const MaxStubs = 20_000

// stubs are names of hardlinked files of the base, made in a fresh upper as files of which only the attributes
// were copied up, with as many names. overlayfs copies a lower file up by one name and leaves the others as they
// were; with index=on it would not, but that needs file handles, and a wrong answer about one of them makes it
// delete data.
type stubs struct {
	base  *tree.Snapshot
	upper string
	dirs  map[string]tree.Entry // made in upper, by path
}

func (s *stubs) make(ctx context.Context) error {
	groups, n := map[string][]string{}, 0
	for h, err := range s.base.Hardlinks(ctx) {
		if err != nil {
			return err
		}
		groups[h.Leader] = append(groups[h.Leader], h.Path)
		if n++; n > MaxStubs {
			clear(groups)
			break
		}
	}
	for leader, names := range groups {
		if err := s.group(ctx, leader, names); err != nil {
			return fmt.Errorf("names of %q: %w", leader, err)
		}
	}
	// Last, for what is made in a directory changes its time, and takes over its default ACL.
	for path, e := range s.dirs {
		if err := s.attributes(ctx, path, e); err != nil {
			return err
		}
	}
	return nil
}

// group makes all names of one file. Those that are not of one file in the tree are left alone.
func (s *stubs) group(ctx context.Context, leader string, names []string) error {
	first, err := s.base.Lookup(ctx, leader)
	if errors.Is(err, fs.ErrNotExist) || err == nil && isWhiteout(first) {
		return nil // a whiteout of the base's own is not shown; made here it would take the base's away
	}
	if err != nil {
		return err
	}
	made := false
	for _, name := range names {
		e, err := s.base.Lookup(ctx, name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !tree.SameFile(first, e) {
			continue
		}
		if err != nil {
			return err
		}
		if !made {
			if err := s.file(ctx, leader, first); err != nil {
				return err
			}
			made = true
		}
		if err := s.parents(ctx, name); err != nil {
			return err
		}
		if err := os.Link(s.at(leader), s.at(name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *stubs) at(path string) string { return filepath.Join(s.upper, path) }

// file makes the file of a group by its first name.
func (s *stubs) file(ctx context.Context, path string, e tree.Entry) error {
	if err := s.parents(ctx, path); err != nil {
		return err
	}
	if err := s.node(path, e); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return s.attributes(ctx, path, e)
}

func (s *stubs) node(path string, e tree.Entry) error {
	at := s.at(path)
	switch e.Type {
	case meta.Symlink:
		return os.Symlink(e.Target, at)
	case meta.File:
		if err := os.WriteFile(at, nil, 0o600); err != nil || e.Size == 0 {
			return err
		}
		if err := os.Truncate(at, int64(e.Size)); err != nil {
			return err
		}
		if err := unix.Setxattr(at, xattrMove, []byte("/"+path), 0); err != nil {
			return err
		}
		return unix.Setxattr(at, xattrMeta, nil, 0)
	}
	kind := map[meta.Type]uint32{
		meta.FIFO: unix.S_IFIFO, meta.Socket: unix.S_IFSOCK, meta.CharDevice: unix.S_IFCHR, meta.BlockDevice: unix.S_IFBLK,
	}[e.Type]
	return unix.Mknod(at, kind|0o600, int(unix.Mkdev(e.Major, e.Minor)))
}

// parents makes the directories above a path that the base has.
func (s *stubs) parents(ctx context.Context, path string) error {
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		dir := path[:i]
		if _, ok := s.dirs[dir]; ok {
			continue
		}
		e, err := s.base.Lookup(ctx, dir)
		if err != nil {
			return err
		}
		if err := os.Mkdir(s.at(dir), 0o700); err != nil {
			return err
		}
		s.dirs[dir] = e
	}
	return nil
}

// attributes gives what was made the owner, permissions, extended attributes and time that the base says.
func (s *stubs) attributes(ctx context.Context, path string, e tree.Entry) error {
	at := s.at(path)
	if err := unix.Lchown(at, int(e.UID), int(e.GID)); err != nil {
		return err
	}
	if e.Type != meta.Symlink {
		if err := unix.Chmod(at, uint32(e.Mode)); err != nil {
			return err
		}
	}
	xs, err := s.base.Xattrs(ctx, e)
	if err != nil {
		return err
	}
	for _, x := range xs {
		if rest, ok := strings.CutPrefix(x.Name, xattrPrefix); ok {
			x.Name = xattrEscape + rest
		}
		if err := unix.Lsetxattr(at, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("%q: attribute %s: %w", path, x.Name, err)
		}
	}
	t := unix.Timespec{Sec: e.Sec, Nsec: int64(e.Nsec)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
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
