package mounttest

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
	"github.com/volary/volary/volume"
)

func testFresh(x *mount) {
	x.mount(volume.MountOptions{})
	x.same("what is visible", x.visible(), x.base.Commit)
	x.same("a snapshot", x.snapshot(), x.base.Commit)
}

func testNeverMounted(x *mount) {
	x.same("a snapshot", x.snapshot(), x.base.Commit)
	x.unmount()
}

// change makes a change of every kind, and returns what is then there.
func (x *mount) change() map[string]string {
	x.Helper()
	appended, err := os.OpenFile(x.at("a"), os.O_WRONLY|os.O_APPEND, 0)
	x.must(err)
	_, err = appended.WriteString(" and more")
	x.must(err)
	x.must(appended.Close())
	x.must(os.Rename(x.at("dir/deep"), x.at("moved")))
	x.write("moved/new", "new")
	x.must(os.Chmod(x.at("dir/b"), 0o640))
	x.must(os.RemoveAll(x.at("gone")))
	x.must(os.Mkdir(x.at("gone"), 0o700))
	x.write("gone/z", "z")
	x.must(os.Remove(x.at("link")))
	x.must(os.Mkdir(x.at("link"), 0o755))
	x.must(os.Symlink("nowhere", x.at("link/to")))
	x.must(os.Rename(x.at("none"), x.at("dir/none")))
	x.must(os.Truncate(x.at("moved/c"), 0))
	x.must(unix.Mkfifo(x.at("fifo"), 0o600))
	then := time.Unix(1_500_000_000, 987654321)
	x.must(os.Chtimes(x.at("dir"), then, then))
	return baseFiles(map[string]string{
		"a": "data of a and more", "dir/deep": "-", "dir/deep/c": "-", "moved": "/", "moved/c": "", "moved/new": "new",
		"gone/x": "-", "gone/y": "-", "gone/z": "z", "link": "/", "link/to": "nowhere", "none": "-", "dir/none": "", "fifo": "",
	})
}

func testChanges(x *mount) {
	x.mount(volume.MountOptions{})
	want := x.change()
	c := x.snapshot()
	x.wantFiles(c, want)
	x.same("a snapshot", c, x.visible())
	all := x.list(c)
	if got := all["dir/b"].Mode; got != 0o640 {
		x.Errorf("mode %o", got)
	}
	if got := all["dir"].Mtime; got != 1_500_000_000_987654321 {
		x.Errorf("time %d", got)
	}
	if got := all["fifo"].Type; got != meta.FIFO.String() {
		x.Errorf("a fifo is a %s", got)
	}
}

func testUnmounted(x *mount) {
	x.mount(volume.MountOptions{})
	want := x.change()
	visible := x.visible()
	x.unmount()
	c := x.snapshot()
	x.wantFiles(c, want)
	x.same("a snapshot", c, visible)
}

func testAgain(x *mount) {
	x.mount(volume.MountOptions{})
	want := x.change()
	visible := x.visible()
	x.unmount()
	x.mount(volume.MountOptions{})
	x.same("what is visible", x.visible(), visible)
	x.write("a", "again")
	want["a"] = "again"
	x.wantFiles(x.snapshot(), want)
}

func testTwice(x *mount) {
	x.mount(volume.MountOptions{})
	x.write("a", "changed")
	open, err := os.OpenFile(x.at("a"), os.O_RDWR, 0)
	x.must(err)
	defer open.Close()
	x.mount(volume.MountOptions{})
	_, err = open.WriteAt([]byte("C"), 0)
	x.must(err)
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "Changed"}))
	x.must(open.Close())
	x.unmount()
}

func testUnmountTwice(x *mount) {
	x.unmount()
	x.mount(volume.MountOptions{})
	x.write("a", "changed")
	x.unmount()
	x.unmount()
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "changed"}))
}

func testTwo(x *mount) {
	x.mount(volume.MountOptions{})
	x.write("a", "first")
	y := *x
	y.dir = x.TempDir()
	defer y.unmount()
	y.mount(volume.MountOptions{})
	y.write("a", "second")
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "first"}))
	x.unmount()
	y.wantFiles(y.snapshot(), baseFiles(map[string]string{"a": "second"}))
}

func testSnapshots(x *mount) {
	x.mount(volume.MountOptions{})
	want := x.change()
	first := x.snapshot()
	x.same("a second snapshot", x.snapshot(), first)
	x.same("what is visible after it", x.visible(), first)
	x.write("a", "later")
	want["a"] = "later"
	x.wantFiles(x.snapshot(), want)
}

func testExclude(x *mount) {
	x.mount(volume.MountOptions{})
	for _, path := range []string{"new.tmp", "dir/new.tmp", "dir/cache", "cache", "keep.tmp"} {
		x.write(path, "new")
	}
	x.must(os.Mkdir(x.at("build"), 0o755))
	x.write("build/out", "new")
	o := x.options()
	o.Exclude = []string{"*.tmp", "/cache", "build/", "!keep.tmp"}
	x.wantFiles(x.snapshotWith(o), baseFiles(map[string]string{"dir/cache": "new", "keep.tmp": "new"}))
}

func testHardlinks(x *mount) {
	x.mount(volume.MountOptions{})
	x.write("dir/one", "changed")
	if got, err := os.ReadFile(x.at("dir/other")); err != nil || string(got) != "changed" {
		x.Errorf("by the other name it is %q, %v", got, err)
	}
	x.must(os.Link(x.at("a"), x.at("dir/a")))
	x.must(os.Rename(x.at("dir"), x.at("moved")))
	x.must(os.Chmod(x.at("moved/a"), 0o600))
	c := x.snapshot()
	x.same("a snapshot", c, x.visible())
	all := x.list(c)
	for path, leader := range map[string]string{"a": "", "moved/a": "a", "moved/one": "", "moved/other": "moved/one"} {
		if got := all[path].Link; got != leader {
			x.Errorf("%s is a name of %q, want %q", path, got, leader)
		}
	}
	if got := all["a"].Mode; got != 0o600 {
		x.Errorf("mode %o by the other name", got)
	}
	x.must(os.Remove(x.at("moved/one")))
	if all = x.list(x.snapshot()); all["moved/other"].Data != "changed" || all["moved/other"].Link != "" {
		x.Errorf("what is left of two names: %+v", all["moved/other"])
	}
}

// testBare is for a base that is a tree of somebody who knows nothing of sidecars.
func testBare(x *mount) {
	n := x.owned(baseTree())
	x.base = x.open(tt.CommitOf(x.T, x.b, tt.Tree(x.T, x.b, n), snapshot.Commit{}.Meta))
	x.mount(volume.MountOptions{Foreign: true})
	x.wantFiles(x.snapshot(), baseFiles(nil))
	x.write("dir/b", "changed")
	c := x.snapshot()
	x.wantFiles(c, baseFiles(map[string]string{"dir/b": "changed"}))
	if !c.Meta.Defined() {
		x.Error("a change has no sidecar")
	}
}

func testEmpty(x *mount) {
	empty, err := unixfs.WriteDir(x.Context(), x.b, nil)
	x.must(err)
	root := x.owned(tt.Dir(nil))
	sidecar, err := meta.WriteRoot(x.Context(), x.b, root.Attr, nil)
	x.must(err)
	x.base = x.open(tt.CommitOf(x.T, x.b, empty.CID, sidecar))
	x.mount(volume.MountOptions{})
	x.same("a snapshot", x.snapshot(), x.base.Commit)
	x.write("f", "f")
	x.wantFiles(x.snapshot(), map[string]string{"f": "f"})
	x.must(os.Remove(x.at("f")))
	x.wantFiles(x.snapshot(), map[string]string{})
}
