package restorer_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

type options = restorer.Options

func open(t *testing.T, b snapshot.Blocks, root tt.Node, links ...meta.Hardlink) *tree.Snapshot {
	t.Helper()
	s, err := tree.Open(ctx, b, tt.Commit(t, b, root.Owned(os.Getuid(), os.Getgid()), links...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func restore(t *testing.T, s *tree.Snapshot, sub, dst string, o options) *restorer.Report {
	t.Helper()
	r, err := restorer.Restore(ctx, s, sub, dst, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Omitted) > 0 {
		t.Errorf("left out: %+v", r.Omitted)
	}
	return r
}

func mode(m uint16) func(*meta.Attr) { return func(a *meta.Attr) { a.Mode = m } }

func xattr(name, value string) func(*meta.Attr) {
	return func(a *meta.Attr) { a.Xattrs = append(a.Xattrs, meta.Xattr{Name: name, Value: []byte(value)}) }
}

func noise(seed uint64, n int) string {
	rng := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return string(p)
}

// sparse has holes, also one across the border of two chunks.
func sparse() tt.Node {
	n := tt.File(strings.Repeat("\x00", 20_000) + noise(1, 5000) + strings.Repeat("\x00", 100_000))
	n.Attr.Sparse = true
	n.ChunkSize = 10_000
	return n
}

// unprivileged has every kind of file and attribute that anybody may restore.
func unprivileged() tt.Node {
	large := tt.File(noise(2, 300_000))
	large.ChunkSize = 4096
	return tt.Dir(map[string]tt.Node{
		"empty":      tt.File(""),
		"emptydir":   tt.Dir(nil).With(mode(0o700)),
		"script":     tt.File("#!/bin/sh\n").With(mode(0o4755)),
		"secret":     tt.File("s").With(mode(0o000)),
		"readonly":   tt.Dir(map[string]tt.Node{"f": tt.File("1").With(mode(0o444)), "d": tt.Dir(nil).With(mode(0o1777))}).With(mode(0o555)),
		"large":      large,
		"sparse":     sparse(),
		"allholes":   tt.File(strings.Repeat("\x00", 50_000)).With(func(a *meta.Attr) { a.Sparse = true }),
		"zeros":      tt.File(strings.Repeat("\x00", 50_000)),
		"old":        tt.File("before 1970").With(func(a *meta.Attr) { a.Sec, a.Nsec = -1000, 999_999_999 }),
		"\xff\xfe\n": tt.File("odd name"),
		"link":       tt.Symlink("../outside/\xff"),
		"dangling":   tt.Symlink("/nonexistent"),
		"fifo":       tt.Special(meta.FIFO, 0, 0).With(mode(0o622)),
		"socket":     tt.Special(meta.Socket, 0, 0),
		"xattrs":     tt.File("x").With(xattr("user.a", "1")).With(xattr("user.b", strings.Repeat("v", 2000))),
		"xattrdir":   tt.Dir(map[string]tt.Node{"f": tt.File("y")}).With(xattr("user.dir", "\x00\xff")),
		"a":          tt.Dir(map[string]tt.Node{"b": tt.Dir(map[string]tt.Node{"first": tt.File("linked")})}),
		"a-second":   tt.File("linked"),
		"z":          tt.Dir(map[string]tt.Node{"third": tt.File("linked")}).With(mode(0o555)),
		"sym2":       tt.Symlink("twice"), "sym1": tt.Symlink("twice"),
	})
}

// hardlinks of unprivileged. By its path the leader is a-second, in the walk a/b/first comes before it.
var hardlinks = []meta.Hardlink{
	{Path: "a/b/first", Leader: "a-second"}, {Path: "sym2", Leader: "sym1"}, {Path: "z/third", Leader: "a-second"},
}

func TestEveryKindOfFileAndAttributeComesBack(t *testing.T) {
	s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
	dst := filepath.Join(tempDir(t), "new")
	r := restore(t, s, "", dst, options{})
	equal(t, s, "", dst)
	if r.Replaced+r.Removed+r.Extra != 0 || r.Adjusted != 1 || r.Made != uint64(len(wanted(t, s, "")))-1 {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsEqualIsNotTouched(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, unprivileged(), hardlinks...)
	dst := tempDir(t)
	restore(t, s, "", dst, options{})
	before := ctimes(t, dst)
	r := restore(t, s, "", dst, options{Delete: true, Step: func(label string) error {
		switch label {
		case restorer.StepAttrs, restorer.StepSync:
			return nil
		}
		return errors.New(label)
	}})
	if r.Made+r.Replaced+r.Adjusted+r.Removed+r.Bytes != 0 {
		t.Errorf("%+v", r)
	}
	if os.Getuid() == 0 { // others have to change modes to look
		if d := cmp.Diff(before, ctimes(t, dst)); d != "" {
			t.Error(d)
		}
	}
	equal(t, s, "", dst)
}

func TestAFileWithHolesAndRoomBeyondItsEndIsNotTouched(t *testing.T) {
	s := open(t, tt.NewMemory(), unprivileged())
	dst := tempDir(t)
	restore(t, s, "", dst, options{})
	sparse := 0
	for path, o := range wanted(t, s, "") {
		if !o.Holes {
			continue
		}
		sparse++
		f, err := os.OpenFile(filepath.Join(dst, path), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, fi.Size(), fi.Size()+8192); err != nil {
			t.Fatal(err)
		}
	}
	if sparse == 0 {
		t.Fatal("the snapshot has no sparse file")
	}
	if r := restore(t, s, "", dst, options{}); r.Replaced > 0 {
		t.Errorf("%d files were replaced", r.Replaced)
	}
}

func TestLookingAtAFileDoesNotCountAsAnAccess(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"f": tt.File("x")}))
	dst := tempDir(t)
	restore(t, s, "", dst, options{})
	path := filepath.Join(dst, "f")
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1000}, {Nsec: unix.UTIME_OMIT}}, 0); err != nil {
		t.Fatal(err)
	}
	restore(t, s, "", dst, options{})
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Atim.Sec != 1000 {
		t.Errorf("accessed at %d, %v", st.Atim.Sec, err)
	}
}

func ctimes(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for path := range found(t, dir) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, path), &st); err != nil {
			t.Fatal(err)
		}
		all[path] = fmt.Sprint(st.Ino, st.Ctim)
	}
	return all
}

func TestOnlyWhatDiffersIsRepaired(t *testing.T) {
	type change func(t *testing.T, dir string)
	at := func(f func(path string) error, name string) change {
		return func(t *testing.T, dir string) {
			if err := f(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(data string) func(string) error {
		return func(p string) error { return os.WriteFile(p, []byte(data), 0o644) }
	}
	type want struct{ Made, Replaced, Adjusted uint64 }
	for name, tc := range map[string]struct {
		change change
		want
	}{
		"a file is gone":       {at(os.Remove, "empty"), want{1, 0, 1}},
		"a tree is gone":       {at(os.RemoveAll, "a"), want{3, 2, 2}},
		"content":              {at(write("other content"), "script"), want{0, 1, 1}},
		"content of same size": {at(func(p string) error { return poke(p, 150_000) }, "large"), want{0, 1, 1}},
		"a hole is filled":     {at(func(p string) error { return fill(p, 8192) }, "sparse"), want{0, 1, 1}},
		"mode":                 {at(func(p string) error { return os.Chmod(p, 0o640) }, "empty"), want{0, 0, 1}},
		"mode of a directory":  {at(func(p string) error { return os.Chmod(p, 0o711) }, "emptydir"), want{0, 0, 1}},
		"mtime": {at(func(p string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, p, make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW)
		}, "link"), want{0, 0, 1}},
		"an xattr is gone":  {at(func(p string) error { return unix.Removexattr(p, "user.a") }, "xattrs"), want{0, 0, 1}},
		"an xattr is other": {at(func(p string) error { return unix.Setxattr(p, "user.a", []byte("9"), 0) }, "xattrs"), want{0, 0, 1}},
		"an xattr is new":   {at(func(p string) error { return unix.Setxattr(p, "user.new", []byte("9"), 0) }, "empty"), want{0, 0, 1}},
		"a target is other": {at(func(p string) error { return errors.Join(os.Remove(p), os.Symlink("x", p)) }, "link"), want{0, 1, 1}},
		"a fifo is a file":  {at(func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o600)) }, "fifo"), want{0, 1, 1}},
		"a file is a dir":   {at(func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "empty"), want{0, 1, 1}},
		"a dir is a file":   {at(func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o600)) }, "emptydir"), want{1, 0, 1}},
		"a link is a copy":  {at(func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, []byte("linked"), 0o600)) }, "a-second"), want{0, 3, 3}},
		"files are one": {at(func(p string) error {
			return errors.Join(os.Remove(p), os.Link(filepath.Join(filepath.Dir(p), "zeros"), p))
		}, "empty"), want{0, 2, 1}},
		"an interrupted run": {at(write("half"), restorer.TempPrefix+"77-1"), want{0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
			dst := tempDir(t)
			restore(t, s, "", dst, options{})
			tc.change(t, dst)
			r := restore(t, s, "", dst, options{})
			equal(t, s, "", dst)
			if got := (want{r.Made, r.Replaced, r.Adjusted}); got != tc.want {
				t.Errorf("did %+v, want %+v", got, tc.want)
			}
		})
	}
}

// poke changes one byte.
func poke(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, at); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{p[0] + 1}, at)
	return err
}

// fill writes all of a file again, holes included.
func fill(path string, _ int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0)
}

func TestAnOldFileIsWholeUntilTheNewOneIs(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, tt.Dir(map[string]tt.Node{"f": tt.File(noise(3, 100_000))}))
	dst := tempDir(t)
	path := filepath.Join(dst, "f")
	if err := os.WriteFile(path, []byte("the old one"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	restore(t, s, "", dst, options{Step: func(label string) error {
		if data, err := os.ReadFile(path); label != restorer.StepSync && string(data) != "the old one" && len(data) != 100_000 {
			t.Errorf("%s: %d bytes, %v", label, len(data), err)
		}
		return nil
	}})
	old := make([]byte, 20)
	if n, _ := f.ReadAt(old, 0); !bytes.Equal(old[:n], []byte("the old one")) {
		t.Errorf("who has the old file open reads %q", old[:n])
	}
	equal(t, s, "", dst)
}

func TestContentIsOnTheDiskBeforeItReplacesOther(t *testing.T) {
	newer, older := map[string]tt.Node{}, map[string]tt.Node{}
	for i := range 10 {
		newer[fmt.Sprint(i)], older[fmt.Sprint(i)] = tt.File(fmt.Sprint("new", i)), tt.File("old")
	}
	dst := tempDir(t)
	restore(t, open(t, tt.NewMemory(), tt.Dir(older)), "", dst, options{})
	var mu sync.Mutex
	var steps []string
	restore(t, open(t, tt.NewMemory(), tt.Dir(newer)), "", dst, options{Step: func(label string) error {
		mu.Lock()
		defer mu.Unlock()
		if label == restorer.StepWrite || label == restorer.StepRename || label == restorer.StepSync {
			steps = append(steps, label)
		}
		return nil
	}})
	want := slices.Concat(slices.Repeat([]string{restorer.StepWrite}, 10), []string{restorer.StepSync},
		slices.Repeat([]string{restorer.StepRename}, 10), []string{restorer.StepSync})
	if d := cmp.Diff(want, steps); d != "" {
		t.Error(d)
	}
}

func TestAForeignTreeIsRestoredAsTheCallersOwn(t *testing.T) {
	b := tt.NewMemory()
	s, err := tree.Open(ctx, b, tt.Tree(t, b, tt.Dir(map[string]tt.Node{"d": tt.Dir(nil), "f": tt.File("x"), "l": tt.Symlink("f")})))
	if err != nil {
		t.Fatal(err)
	}
	dst := tempDir(t)
	if err := os.Chmod(dst, 0o711); err != nil {
		t.Fatal(err)
	}
	restore(t, s, "", dst, options{Foreign: true})
	got := found(t, dst)
	for path, m := range map[string]uint16{"": 0o711, "d": 0o755, "f": 0o644} {
		if o := got[path]; o.UID != uint32(os.Getuid()) || o.Mode != m || o.Sec < tt.Mtime {
			t.Errorf("%q: %+v", path, o)
		}
	}
	if r := restore(t, s, "", dst, options{}); r.Unchanged != 4 {
		t.Errorf("%+v", r)
	}
}
