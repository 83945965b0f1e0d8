//go:build real

package view_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/view"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, b snapshot.Blocks, c cid.Cid) *tree.Snapshot {
	t.Helper()
	s, err := tree.Open(ctx, b, c)
	must(t, err)
	return s
}

// mounted shows a snapshot in a directory of the test's.
func mounted(t testing.TB, b snapshot.Blocks, c cid.Cid, o view.Options) string {
	t.Helper()
	dir := t.TempDir()
	guard(t, dir)
	srv, err := view.Mount(ctx, open(t, b, c), dir, o)
	must(t, err)
	t.Cleanup(func() {
		must(t, view.Unmount(dir))
		srv.Wait()
	})
	return dir
}

// guard ends a mount that takes too long: who waits for one that the same process should serve waits for ever.
func guard(t testing.TB, dir string) {
	force := time.AfterFunc(2*time.Minute, func() { unix.Unmount(dir, unix.MNT_FORCE) })
	t.Cleanup(func() { force.Stop() })
}

// imported returns the commit of a directory, taken into a store of its own.
func imported(t testing.TB, dir string) *snapshot.Commit {
	t.Helper()
	r, err := importer.Import(ctx, tt.NewMemory(), dir, importer.Options{})
	must(t, err)
	if len(r.Unsettled) > 0 {
		t.Fatalf("unsettled: %q", r.Unsettled)
	}
	return r.Commit
}

func xattr(name, value string) func(*meta.Attr) {
	return func(a *meta.Attr) { a.Xattrs = append(a.Xattrs, meta.Xattr{Name: name, Value: []byte(value)}) }
}

func mode(m uint16) func(*meta.Attr) { return func(a *meta.Attr) { a.Mode = m } }

func owner(uid, gid uint32) func(*meta.Attr) {
	return func(a *meta.Attr) { a.UID, a.GID = uid, gid }
}

func noise(n int) string {
	b := make([]byte, n)
	x := uint64(n) + 88172645463325252
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

func everything() (tt.Node, []meta.Hardlink) {
	sparse := noise(5<<20) + string(make([]byte, 3<<20)) + noise(4096) + string(make([]byte, 12288)) + "end"
	root := tt.Dir(map[string]tt.Node{
		"a":       tt.File("hello\n"),
		"b":       tt.File("other").With(mode(0o600)).With(owner(1234, 5678)),
		"big":     tt.File(noise(5<<20 + 77)),
		"empty":   tt.File(""),
		"fifo":    tt.Special(meta.FIFO, 0, 0),
		"sock":    tt.Special(meta.Socket, 0, 0),
		"null":    tt.Special(meta.CharDevice, 1, 3),
		"blk":     tt.Special(meta.BlockDevice, 4000, 70000),
		"link":    tt.Symlink("a"),
		"suid":    tt.File("suid").With(mode(0o6755)),
		"x":       tt.File("x").With(xattr("trusted.note", "n")).With(xattr("user.a", "b")),
		"sparse":  tt.File(sparse).With(func(a *meta.Attr) { a.Sparse = true }),
		"hole":    tt.File(string(make([]byte, 4096))).With(func(a *meta.Attr) { a.Sparse = true }),
		"sticky":  tt.Dir(map[string]tt.Node{"z": tt.File("z")}).With(mode(0o1777)).With(xattr("user.dir", "d")),
		"emptyd":  tt.Dir(nil),
		"l1":      tt.File("linked"),
		"old":     tt.File("1969").With(func(a *meta.Attr) { a.Sec = -5 }),
		"sub":     tt.Dir(map[string]tt.Node{"l2": tt.File("linked"), "deep": tt.Dir(map[string]tt.Node{"l3": tt.File("linked"), "f": tt.File("deep")})}),
		"\xff\n ": tt.File("odd name"),
		"trail":   tt.File(noise(1<<20 + 4096)),
	})
	return root, []meta.Hardlink{{Path: "sub/deep/l3", Leader: "l1"}, {Path: "sub/l2", Leader: "l1"}}
}

func TestRealAViewIsWhatARestoreGives(t *testing.T) {
	b := tt.NewMemory()
	root, links := everything()
	c := tt.Commit(t, b, root, links...)
	s := open(t, b, c)
	restored := filepath.Join(t.TempDir(), "r")
	_, err := restorer.Restore(ctx, s, "", restored, restorer.Options{Privileged: true})
	must(t, err)
	want := imported(t, restored)
	for name, o := range map[string]view.Options{"root's": {}, "everybody's": {AllowOther: true}} {
		t.Run(name, func(t *testing.T) {
			got := imported(t, mounted(t, b, c, o))
			if got.Tree != want.Tree || got.Meta != want.Meta {
				t.Errorf("tree %s, meta %s, want %s, %s", got.Tree, got.Meta, want.Tree, want.Meta)
			}
			if got.Meta != s.Commit.Meta || got.Tree != s.Commit.Tree {
				t.Errorf("not the snapshot's")
			}
		})
	}
}
