package restorer_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

var ctx = context.Background()

// object is all that can be seen of a file, from either side.
type object struct {
	Type       meta.Type
	Mode       uint16
	UID, GID   uint32
	Sec        int64
	Nsec       uint32
	Content    string // digest of a file, target of a symlink
	Device     uint64
	Xattrs     string
	HardlinkOf string // the first path of the same file
	Holes      bool
}

// wanted is what a restore of a snapshot must give.
func wanted(t *testing.T, s *tree.Snapshot, sub string) map[string]object {
	t.Helper()
	objects := map[string]object{}
	firsts := map[string]string{} // path in the restored part, by leader
	for e, err := range s.Walk(ctx, sub, tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		path := strings.Trim(strings.TrimPrefix(e.Path, sub), "/")
		o := object{
			Type: e.Type, Mode: e.Mode, UID: e.UID, GID: e.GID, Sec: e.Sec, Nsec: e.Nsec,
			Content: e.Target, Holes: e.Sparse,
		}
		if e.Type == meta.CharDevice || e.Type == meta.BlockDevice {
			o.Device = unix.Mkdev(e.Major, e.Minor)
		}
		if e.Type == meta.File {
			o.Content = contentOf(t, s, e.Entry)
		}
		xs, err := s.Xattrs(ctx, e.Entry)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range xs {
			o.Xattrs += fmt.Sprintf("%s=%q ", x.Name, x.Value)
		}
		leader, linked, err := s.Leader(ctx, e.Path)
		if err != nil {
			t.Fatal(err)
		}
		if !linked {
			leader = e.Path
		}
		if first, met := firsts[leader]; met {
			o.HardlinkOf = first
		} else {
			firsts[leader] = path
		}
		objects[path] = o
	}
	return objects
}

func contentOf(t *testing.T, s *tree.Snapshot, e tree.Entry) string {
	t.Helper()
	r, err := s.Reader(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// found is what is on the disk.
func found(t *testing.T, dir string) map[string]object {
	t.Helper()
	objects := map[string]object{}
	firsts := map[uint64]string{}
	scan(t, dir, "", objects, firsts)
	return objects
}

// scan goes the way of tree.Walk, so that the first name of a hardlinked file is the same.
func scan(t *testing.T, dir, path string, objects map[string]object, firsts map[uint64]string) {
	t.Helper()
	full := filepath.Join(dir, path)
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		t.Fatal(err)
	}
	o := object{Mode: uint16(st.Mode & meta.ModeMask), UID: st.Uid, GID: st.Gid, Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		o.Type, o.Holes = meta.File, st.Blocks*512 < st.Size
		data := readFile(t, full, o.Mode)
		o.Content = fmt.Sprintf("%x", sha256.Sum256(data))
	case unix.S_IFDIR:
		o.Type = meta.Dir
	case unix.S_IFLNK:
		o.Type = meta.Symlink
		o.Content, _ = os.Readlink(full)
	case unix.S_IFIFO:
		o.Type = meta.FIFO
	case unix.S_IFSOCK:
		o.Type = meta.Socket
	case unix.S_IFCHR:
		o.Type, o.Device = meta.CharDevice, st.Rdev
	case unix.S_IFBLK:
		o.Type, o.Device = meta.BlockDevice, st.Rdev
	}
	o.Xattrs = xattrsOf(t, full)
	if st.Nlink > 1 && o.Type != meta.Dir {
		if first, met := firsts[st.Ino]; met {
			o.HardlinkOf = first
		} else {
			firsts[st.Ino] = path
		}
	}
	objects[path] = o
	if o.Type != meta.Dir {
		return
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(full, 0o700); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Chmod(full, uint32(o.Mode)); err != nil {
				t.Fatal(err)
			}
		}()
	}
	names, err := os.ReadDir(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		scan(t, dir, tree.Join(path, n.Name()), objects, firsts)
	}
}

// readFile also reads what its owner may not.
func readFile(t *testing.T, path string, mode uint16) []byte {
	t.Helper()
	if os.Geteuid() != 0 && mode&0o400 == 0 {
		if err := unix.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Chmod(path, uint32(mode)); err != nil {
				t.Fatal(err)
			}
		}()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tempDir can be removed by its owner whatever was restored into it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if e.IsDir() && err == nil {
				return os.Chmod(path, 0o700)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func xattrsOf(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	all := ""
	for _, name := range names {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%s=%q ", name, value[:n])
	}
	return all
}

// equal fails unless the directory is as the snapshot says.
func equal(t *testing.T, s *tree.Snapshot, sub, dir string) {
	t.Helper()
	if d := cmp.Diff(wanted(t, s, sub), found(t, dir)); d != "" {
		t.Errorf("snapshot (-) and disk (+) differ:\n%s", d)
	}
}
