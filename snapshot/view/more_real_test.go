//go:build real

package view_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
	"github.com/volary/volary/snapshot/view"
)

func names(t testing.TB, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range es {
		all = append(all, e.Name())
	}
	return all
}

func statOf(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func TestRealNamesOfAFileAreOneInode(t *testing.T) {
	b := tt.NewMemory()
	root, links := everything()
	c := tt.Commit(t, b, root, links...)
	dir := mounted(t, b, c, view.Options{})
	for _, name := range []string{"l1", "sub/l2", "sub/deep/l3"} {
		a, got := statOf(t, dir+"/l1"), statOf(t, filepath.Join(dir, name))
		if got.Ino != a.Ino || got.Nlink != 3 {
			t.Errorf("%s: inode %d with %d names, want %d with 3", name, got.Ino, got.Nlink, a.Ino)
		}
	}
	n := uint64(0) // in preorder
	for e, err := range open(t, b, c).Walk(ctx, "", tree.Limits{}) {
		must(t, err)
		if e.Path == "sub/deep/f" {
			break
		}
		n++
	}
	if ino := statOf(t, dir+"/sub/deep/f").Ino; ino != n+1 {
		t.Errorf("inode %d of entry %d", ino, n)
	}
	part := mounted(t, b, c, view.Options{Path: "sub"})
	if got := statOf(t, part+"/l2"); got.Nlink != 2 || got.Ino != statOf(t, part+"/deep/l3").Ino {
		t.Errorf("in a part: inode %d with %d names, want those in it", got.Ino, got.Nlink)
	}
}

func TestRealAForeignDirectoryIsShownWithDefaults(t *testing.T) {
	b := tt.NewMemory()
	root, _ := everything()
	c := tt.Tree(t, b, root)
	restored := filepath.Join(t.TempDir(), "r")
	_, err := restorer.Restore(ctx, open(t, b, c), "", restored, restorer.Options{})
	must(t, err)
	dir := mounted(t, b, c, view.Options{})
	got, want := imported(t, dir), imported(t, restored)
	if got.Tree != want.Tree {
		t.Errorf("tree %s, want %s", got.Tree, want.Tree)
	}
	if st := statOf(t, dir+"/sub"); st.Mode != unix.S_IFDIR|tree.DefaultDirMode || st.Uid != 0 {
		t.Errorf("mode %o, owner %d", st.Mode, st.Uid)
	}
}

func TestRealTheSameInodesInEveryMount(t *testing.T) {
	b := tt.NewMemory()
	root, links := everything()
	for name, c := range map[string]cid.Cid{"with a sidecar": tt.Commit(t, b, root, links...), "without": tt.Tree(t, b, root)} {
		t.Run(name, func(t *testing.T) {
			inodes := func(dir string) map[string]uint64 {
				all := map[string]uint64{}
				taken := map[uint64]string{}
				must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
					st := statOf(t, p)
					if other := taken[st.Ino]; other != "" && st.Nlink == 1 {
						t.Errorf("%s and %s have inode %d", p, other, st.Ino)
					}
					taken[st.Ino], all[strings.TrimPrefix(p, dir)] = p, st.Ino
					return err
				}))
				return all
			}
			first, second := mounted(t, b, c, view.Options{}), mounted(t, b, c, view.Options{})
			if _, err := os.Stat(second + "/sub/deep/f"); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(inodes(first), inodes(second)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRealHolesAreWhereARestoreMakesThem(t *testing.T) {
	b := tt.NewMemory()
	root, links := everything()
	c := tt.Commit(t, b, root, links...)
	restored := filepath.Join(t.TempDir(), "r")
	_, err := restorer.Restore(ctx, open(t, b, c), "", restored, restorer.Options{Privileged: true})
	must(t, err)
	dir := mounted(t, b, c, view.Options{})
	for _, name := range []string{"sparse", "hole", "big", "empty"} {
		if diff := cmp.Diff(segments(t, filepath.Join(restored, name)), segments(t, filepath.Join(dir, name))); diff != "" {
			t.Errorf("%s (-restored +shown):\n%s", name, diff)
		}
	}
}

// segments are the offsets at which data begins and ends.
func segments(t *testing.T, path string) []int64 {
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var all []int64
	for at, whence := int64(0), unix.SEEK_DATA; ; whence = unix.SEEK_DATA + unix.SEEK_HOLE - whence {
		at, err = unix.Seek(int(f.Fd()), at, whence)
		if errors.Is(err, unix.ENXIO) {
			return all
		}
		must(t, err)
		all = append(all, at)
	}
}

func TestRealAsALowerNothingSteersAnOverlay(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Commit(t, b, tt.Dir(map[string]tt.Node{
		"d":     tt.Dir(map[string]tt.Node{"f": tt.File("f")}).With(xattr("trusted.overlay.opaque", "y")).With(xattr("user.k", "v")),
		"white": tt.Special(meta.CharDevice, 0, 0),
		"zz":    tt.File("last"),
	}))
	lower, plain := mounted(t, b, c, view.Options{Lower: true, AllowOther: true}), mounted(t, b, c, view.Options{})
	if diff := cmp.Diff([]string{"d", "zz"}, names(t, lower)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Lstat(lower + "/white"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a whiteout is there: %v", err)
	}
	list := func(dir string) []string {
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(dir+"/d", buf)
		must(t, err)
		return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	}
	if diff := cmp.Diff([]string{"trusted.overlay.overlay.opaque", "user.k"}, list(lower)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"trusted.overlay.opaque", "user.k"}, list(plain)); diff != "" {
		t.Error(diff)
	}
	if _, err := unix.Lgetxattr(lower+"/d", "trusted.overlay.opaque", nil); err != unix.ENODATA {
		t.Errorf("opaque: %v", err)
	}
	if len(names(t, plain)) != 3 {
		t.Error("by itself, a view hides something")
	}
}

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRealAMissingBlockIsAnErrorThere(t *testing.T) {
	b := tt.NewMemory()
	lost := noise(300_000)
	c := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"lost": tt.File(lost), "there": tt.File("there"), "d": tt.Dir(map[string]tt.Node{"f": tt.File("in it")})}))
	leaf := unixfs.Leaf([]byte(lost)).Cid()
	s := open(t, b, c)
	d, err := s.Lookup(ctx, "d")
	must(t, err)
	b.Lose(leaf)
	b.Lose(d.CID)
	var log lines
	dir := mounted(t, b, c, view.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), IOTimeout: 10 * time.Second})
	if _, err := os.ReadFile(dir + "/lost"); !errors.Is(err, syscall.EIO) {
		t.Errorf("lost: %v", err)
	}
	if _, err := os.ReadDir(dir + "/d"); !errors.Is(err, syscall.EIO) {
		t.Errorf("d: %v", err)
	}
	if got, err := os.ReadFile(dir + "/there"); err != nil || string(got) != "there" {
		t.Errorf("there: %q, %v", got, err)
	}
	for _, want := range []string{leaf.String(), "path=lost", d.CID.String(), "path=d"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not name %s:\n%s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "path=lost"); n != 1 {
		t.Errorf("said %d times that it is lost", n)
	}
	b.Find(leaf)
	b.Find(d.CID)
	if got, err := os.ReadFile(dir + "/lost"); err != nil || string(got) != lost {
		t.Errorf("found again: %d bytes, %v", len(got), err)
	}
	if _, err := os.ReadFile(dir + "/d/f"); err != nil {
		t.Errorf("found again: %v", err)
	}
}

func TestRealAnotherServerGoesOn(t *testing.T) {
	b := tt.NewMemory()
	root, links := everything()
	for name, c := range map[string]cid.Cid{"with a sidecar": tt.Commit(t, b, root, links...), "without": tt.Tree(t, b, root)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			guard(t, dir)
			srv, err := view.Mount(ctx, open(t, b, c), dir, view.Options{})
			must(t, err)
			t.Cleanup(func() { must(t, view.Unmount(dir)) })
			f, err := os.Open(dir + "/sub/deep/f")
			must(t, err)
			defer f.Close()
			big, err := os.Open(dir + "/big")
			must(t, err)
			defer big.Close()
			before := statOf(t, dir+"/sub/deep/f")
			for range 3 {
				conn := view.Connection{Device: dup(t, srv.Connection().Device), Table: dup(t, srv.Connection().Table), Init: srv.Connection().Init}
				srv.Stop()
				got := make(chan error, 2)
				go func() { _, err := os.ReadDir(dir + "/sticky"); got <- err }()
				go func() { _, err := io.Copy(io.Discard, io.NewSectionReader(big, 0, 5<<20)); got <- err }()
				srv, err = view.Resume(ctx, open(t, b, c), conn, view.Options{})
				must(t, err)
				for range 2 {
					must(t, <-got)
				}
				unix.Fadvise(int(big.Fd()), 0, 0, unix.FADV_DONTNEED)
				unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
				text, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
				if err != nil || string(text) != "deep" {
					t.Errorf("read %q, %v", text, err)
				}
				if now := statOf(t, dir+"/sub/deep/f"); now.Ino != before.Ino {
					t.Errorf("inode %d, was %d", now.Ino, before.Ino)
				}
			}
		})
	}
}

func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return os.NewFile(uintptr(fd), f.Name())
}

func TestRealALargeDirectoryIsListedWhole(t *testing.T) {
	const n = 100_000
	b := tt.NewMemory()
	children := make(map[string]tt.Node, n)
	for i := range n {
		children[fmt.Sprintf("entry-%07d", i)] = tt.File(fmt.Sprint(i % 7))
	}
	root := tt.Dir(children)
	for name, c := range map[string]cid.Cid{"with a sidecar": tt.Commit(t, b, root), "without": tt.Tree(t, b, root)} {
		t.Run(name, func(t *testing.T) {
			dir := mounted(t, b, c, view.Options{})
			got := names(t, dir)
			if len(got) != n || !slices.IsSorted(got) {
				t.Errorf("%d entries, want %d", len(got), n)
			}
			for i := 0; i < n; i += 997 {
				if text, err := os.ReadFile(fmt.Sprintf("%s/entry-%07d", dir, i)); err != nil || string(text) != fmt.Sprint(i%7) {
					t.Errorf("%d: %q, %v", i, text, err)
				}
			}
		})
	}
}

func TestRealWhatIsMalformedIsAnErrorThere(t *testing.T) {
	b := tt.NewMemory()
	liar := unixfs.Leaf([]byte("four"))
	must(t, b.Put(ctx, liar))
	// The sidecar counts another number of entries than there are, and the tree another size than the leaf's.
	inner, _, err := meta.WriteDir(ctx, b, []meta.Row{{Name: "x", Attr: meta.Attr{Type: meta.File, Mode: 0o644}}, {Name: "y", Attr: meta.Attr{Type: meta.File, Mode: 0o644}}})
	must(t, err)
	rows, _, err := meta.WriteDir(ctx, b, []meta.Row{
		{Name: "few", Attr: meta.Attr{Type: meta.Dir, Mode: 0o755, Below: 1, Entries: inner}},
		{Name: "fine", Attr: meta.Attr{Type: meta.File, Mode: 0o644}},
	})
	must(t, err)
	sidecar, err := meta.WriteRoot(ctx, b, meta.Attr{Type: meta.Dir, Mode: 0o755, Below: 3, Entries: rows}, nil)
	must(t, err)
	top := tt.Tree(t, b, tt.Dir(map[string]tt.Node{
		"few":   tt.Dir(map[string]tt.Node{"x": tt.File("x"), "y": tt.File("y")}),
		"fine":  tt.File("fine"),
		"wrong": {Attr: meta.Attr{Type: meta.File}, Link: cid.NewCidV1(cid.DagProtobuf, liar.Cid().Hash())},
	}))
	dir := mounted(t, b, tt.CommitOf(t, b, top, sidecar), view.Options{})
	if _, err := os.ReadDir(dir + "/few"); !errors.Is(err, syscall.EIO) {
		t.Errorf("few: %v", err)
	}
	if _, err := os.Lstat(dir + "/wrong"); !errors.Is(err, syscall.EIO) {
		t.Errorf("wrong: %v", err)
	}
	if got, err := os.ReadFile(dir + "/fine"); err != nil || string(got) != "fine" {
		t.Errorf("fine: %q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"few", "fine", "wrong"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestRealWhereTreeAndSidecarDisagreeTheTreeWins(t *testing.T) {
	b := tt.NewMemory()
	rows, below, err := meta.WriteDir(ctx, b, []meta.Row{
		{Name: "file", Attr: meta.Attr{Type: meta.Symlink, Mode: 0o777, UID: 7}},
		{Name: "gone", Attr: meta.Attr{Type: meta.File, Mode: 0o600}},
		{Name: "large", Attr: meta.Attr{Type: meta.Symlink, Mode: 0o777, UID: 7}},
		{Name: "null", Attr: meta.Attr{Type: meta.CharDevice, Mode: 0o666, Major: 1, Minor: 3}},
		{Name: "seen", Attr: meta.Attr{Type: meta.File, Mode: 0o640, UID: 7}},
	})
	must(t, err)
	sidecar, err := meta.WriteRoot(ctx, b, meta.Attr{Type: meta.Dir, Mode: 0o755, Below: below, Entries: rows}, nil)
	must(t, err)
	top := tt.Tree(t, b, tt.Dir(map[string]tt.Node{
		"file": tt.File("f"), "large": tt.File(noise(2 << 20)), "seen": tt.File("s"), "null": tt.File("no device"),
		"unseen": tt.Dir(map[string]tt.Node{"deep": tt.Dir(map[string]tt.Node{"f": tt.File("deep")})}),
	}))
	c := tt.CommitOf(t, b, top, sidecar)
	s := open(t, b, c)
	dir := mounted(t, b, c, view.Options{})
	if diff := cmp.Diff([]string{"file", "large", "null", "seen", "unseen"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	for l, err := range s.Walk(ctx, "", tree.Limits{}) {
		must(t, err)
		st := statOf(t, filepath.Join(dir, l.Path))
		if st.Mode&0o7777 != uint32(l.Mode) || st.Uid != l.UID || !l.IsDir() && st.Size != int64(l.Size) {
			t.Errorf("%q: mode %o, owner %d, size %d, want %o, %d, %d", l.Path, st.Mode, st.Uid, st.Size, l.Mode, l.UID, l.Size)
		}
	}
	if got, err := os.ReadFile(dir + "/unseen/deep/f"); err != nil || string(got) != "deep" {
		t.Errorf("deep: %q, %v", got, err)
	}
}

func TestRealAFileIsNotMounted(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Tree(t, b, tt.File(noise(2<<20)))
	dir := t.TempDir()
	if _, err := view.Mount(ctx, open(t, b, c), dir, view.Options{}); !errors.Is(err, snapshot.ErrFormat) {
		t.Errorf("mounted a file: %v", err)
	}
	if _, err := view.Mount(ctx, open(t, b, c), dir, view.Options{Path: "none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("mounted nothing: %v", err)
	}
}
