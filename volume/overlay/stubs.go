package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

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
	unfit map[string]error      // paths that cannot be had, and why
}

// makeStubs makes a directory with the stubs of a base in it. Names that cannot be had there are left out with all
// other names of their file, which a write parts: an attribute may be too large for the file system, a path too long,
// and a snapshot of somebody else may say anything.
func makeStubs(ctx context.Context, base *tree.Snapshot, upper string) error {
	groups, err := readGroups(ctx, base)
	if err != nil {
		return err
	}
	for {
		if err := newUpper(upper); err != nil {
			return err
		}
		s := &stubs{base: base, upper: upper, dirs: map[string]tree.Entry{"": base.Root()}}
		if err := s.make(ctx, groups); err != nil || len(s.unfit) == 0 {
			return err
		}
		if !s.leaveOut(groups) {
			return fmt.Errorf("its top directory cannot be had in %s: %w", upper, s.unfit[""])
		}
	}
}

func newUpper(upper string) error {
	if err := os.RemoveAll(upper); err != nil {
		return err
	}
	if err := os.Mkdir(upper, 0o700); err != nil {
		return err
	}
	return dropACL(upper)
}

// readGroups returns the names of hardlinked files by their leaders, none if there are too many.
func readGroups(ctx context.Context, base *tree.Snapshot) (map[string][]string, error) {
	groups, n := map[string][]string{}, 0
	for h, err := range base.Hardlinks(ctx) {
		if err != nil {
			return nil, fmt.Errorf("its table of hardlinks: %w", err)
		}
		groups[h.Leader] = append(groups[h.Leader], h.Path)
		if n++; n > MaxStubs {
			return nil, nil
		}
	}
	return groups, nil
}

func (s *stubs) make(ctx context.Context, groups map[string][]string) error {
	for _, leader := range slices.Sorted(maps.Keys(groups)) {
		if err := s.group(ctx, leader, groups[leader]); err != nil && !s.isUnfit(leader, err) {
			return fmt.Errorf("names of %q: %w", leader, err)
		}
	}
	// Last, for what is made in a directory changes its time, and takes over its default ACL.
	for path, e := range s.dirs {
		if err := s.attributes(ctx, path, e); err != nil && !s.isUnfit(path, err) {
			return err
		}
	}
	return nil
}

// isUnfit notes a path that cannot be had, if that is what an error says: neither the disk nor who has the blocks
// is to blame, and it would be so the next time.
func (s *stubs) isUnfit(path string, err error) bool {
	var no unix.Errno
	var attr *attributeError
	switch {
	case errors.As(err, &no):
		lasting := no != unix.EIO && no != unix.EROFS && no != unix.ENOSPC && no != unix.EDQUOT && no != unix.EMFILE && no != unix.ENFILE
		// Of an attribute it says that there is no room for it beside the others.
		if !lasting && !(no == unix.ENOSPC && errors.As(err, &attr)) {
			return false
		}
	case !errors.Is(err, snapshot.ErrFormat) && !errors.Is(err, snapshot.ErrNotFound) && !errors.Is(err, snapshot.ErrDamaged):
		return false
	}
	if s.unfit == nil {
		s.unfit = map[string]error{}
	}
	s.unfit[path] = err
	return true
}

// leaveOut takes away the groups that have something unfit among their names or the directories above. It reports
// whether there were any.
func (s *stubs) leaveOut(groups map[string][]string) bool {
	before := len(groups)
	for leader, names := range groups {
		if slices.ContainsFunc(append([]string{leader}, names...), s.atUnfit) {
			delete(groups, leader)
		}
	}
	return len(groups) < before
}

func (s *stubs) atUnfit(name string) bool {
	for {
		if _, ok := s.unfit[name]; ok {
			return true
		}
		if name = path.Dir(name); name == "." {
			return false
		}
	}
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

func (s *stubs) at(name string) string { return filepath.Join(s.upper, name) }

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
		f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil || e.Size == 0 {
			return err
		}
		if err := os.Truncate(at, int64(e.Size)); err != nil {
			return err
		}
		if err := setAttribute(at, path, meta.Xattr{Name: xattrMove, Value: []byte("/" + path)}); err != nil {
			return err
		}
		return setAttribute(at, path, meta.Xattr{Name: xattrMeta})
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

// attributeError says that an extended attribute cannot be set.
type attributeError struct {
	path, name string
	err        error
}

func (e *attributeError) Error() string {
	return fmt.Sprintf("%q: attribute %s: %v", e.path, e.name, e.err)
}
func (e *attributeError) Unwrap() error { return e.err }

func setAttribute(at, path string, x meta.Xattr) error {
	if err := unix.Lsetxattr(at, x.Name, x.Value, 0); err != nil {
		return &attributeError{path, x.Name, err}
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
		if err := setAttribute(at, path, x); err != nil {
			return err
		}
	}
	t := unix.Timespec{Sec: e.Sec, Nsec: int64(e.Nsec)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}
