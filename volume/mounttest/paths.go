package mounttest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
)

// testExcludeBase changes, removes and replaces what the base has under names that patterns exclude.
func testExcludeBase(x *mount) {
	x.mount(volume.MountOptions{})
	x.write("a", "changed")
	x.must(os.Remove(x.at("none")))
	x.must(os.RemoveAll(x.at("gone")))
	x.must(os.Mkdir(x.at("gone"), 0o700))
	x.write("gone/new", "new")
	x.write("dir/b", "changed")
	x.must(os.RemoveAll(x.at("dir/deep")))
	x.write("new", "new")
	o := x.options()
	o.Exclude = []string{"/a", "none", "gone/", "/dir/deep"}
	x.wantFiles(x.snapshotWith(o), baseFiles(map[string]string{"dir/b": "changed", "new": "new"}))
	x.unmount()
	x.wantFiles(x.snapshotWith(o), baseFiles(map[string]string{"dir/b": "changed", "new": "new"}))
}

// testWrittenBelow is about the directory that is mounted on: root in a container can write wherever there is one.
func testWrittenBelow(x *mount) {
	for _, o := range []volume.MountOptions{{}, {ReadOnly: true}} {
		x.dir = x.TempDir()
		at := x.m.Path(x.dir)
		x.mount(o)
		x.unmount()
		if err := os.WriteFile(filepath.Join(at, "lost"), []byte("lost"), 0o600); !errors.Is(err, os.ErrNotExist) {
			x.Errorf("%+v: written where nothing is mounted: %v", o, err)
		}
		x.must(os.MkdirAll(at, 0o755))
		x.must(os.WriteFile(filepath.Join(at, "lost"), []byte("lost"), 0o600))
		o.Full = x.o.Full
		if err := x.m.Mount(x.Context(), x.base, x.dir, o); err == nil || !strings.Contains(err.Error(), at) {
			x.Errorf("%+v: mounted over files: %v", o, err)
		}
		if err := x.m.Unmount(x.Context(), x.dir); err == nil {
			x.Errorf("%+v: done with, and the files not named", o)
		}
		if b, err := os.ReadFile(filepath.Join(at, "lost")); err != nil || string(b) != "lost" {
			x.Errorf("%+v: %q, %v", o, b, err)
		}
		x.must(os.Remove(filepath.Join(at, "lost")))
		x.mount(o)
		x.unmount()
	}
}

// testDeep makes directories below each other until no path names them, and changes something there.
func testDeep(x *mount) {
	x.mount(volume.MountOptions{})
	name := strings.Repeat("d", 200)
	down := func(make bool, do func(fd int)) (path string) {
		fd, err := unix.Open(x.at("."), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		x.must(err)
		for len(path) <= unix.PathMax {
			if make {
				x.must(unix.Mkdirat(fd, name, 0o755))
			}
			next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			x.must(err)
			x.must(unix.Close(fd))
			fd, path = next, tree.Join(path, name)
		}
		do(fd)
		x.must(unix.Close(fd))
		return path
	}
	write := func(data string) func(int) {
		return func(dir int) {
			fd, err := unix.Openat(dir, "f", unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			x.must(err)
			_, err = unix.Write(fd, []byte(data))
			x.must(err)
			x.must(unix.Close(fd))
		}
	}
	path := tree.Join(down(true, write("first")), "f")
	c := x.snapshot()
	if got := x.list(c)[path].Data; got != "first" {
		x.Errorf("at the bottom is %q", got)
	}
	x.same("a snapshot", c, x.visible())
	down(false, write("second"))
	if got := x.list(x.snapshot())[path].Data; got != "second" {
		x.Errorf("after a change at the bottom is %q", got)
	}
	x.unmount()
	c = x.snapshot()
	x.base = x.open(tt.CommitOf(x.T, x.b, c.Tree, c.Meta))
	x.dir = x.TempDir()
	x.mount(volume.MountOptions{})
	down(false, write("third"))
	down(false, func(dir int) { x.must(unix.Linkat(dir, "f", dir, "g", 0)) })
	all := x.list(x.snapshot())
	if second := tree.Join(filepath.Dir(path), "g"); all[path].Data != "third" || all[second].Link != path {
		x.Errorf("on a base that has it: %q, and %q is a name of %q", all[path].Data, second[len(second)-1:], all[second].Link)
	}
	x.unmount()
}
