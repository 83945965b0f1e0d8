package mounttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
)

// RunKernel tests, beside what Run does, an implementation whose mounts every program sees; bases are copied if
// full says so. It needs root.
func RunKernel(t *testing.T, full bool, open func(t *testing.T) volume.Mounter) {
	run(t, open, volume.MountOptions{Full: full}, append(common(), []testCase{
		{"a mount in use stays, and who uses it is told", testBusy},
		{"a mount that is visible at a second place stays", testSecondPlace},
		{"a mount that is visible in another namespace stays", testOtherNamespace},
		{"what is open out of sight is in use", testOutOfSight},
		{"what follows is so for all who see the mount, and lets go of what is not in use", testFollowBound},
		{"read-only, nothing can be changed", testReadOnly},
		{"devices and set-user-ID of a foreign base have no effect", testForeign},
		{"owners, attributes and devices", testAttributes},
		{"a default ACL is for what is made later", testDefaultACL},
		{"a file of the base that gets a second name is one file", testLinkedLate},
		{"attributes that look like the kernel's own", testEscape},
		{"a name in the path that means something to mount", testOddPath},
		{"what the base has of what patterns exclude stays as it is", testExcludeBase},
		{"what is written where nothing is mounted is not hidden", testWrittenBelow},
		{"paths longer than a program can say", testDeep},
		{"unlinked files can be used as long as they are open", testUnlinked},
	}...))
}

func testBusy(x *mount) {
	x.mount(volume.MountOptions{})
	x.write("a", "changed")
	self := fmt.Sprintf("(%d)", os.Getpid())
	for name, use := range map[string]func() func() error{
		"an open file": func() func() error {
			f, err := os.Open(x.at("dir/b"))
			x.must(err)
			return f.Close
		},
		"a mapped file": func() func() error {
			f, err := os.OpenFile(x.at("a"), os.O_RDWR, 0)
			x.must(err)
			m, err := unix.Mmap(int(f.Fd()), 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			x.must(err)
			x.must(f.Close())
			return func() error { return unix.Munmap(m) }
		},
	} {
		done := use()
		if err := x.m.Unmount(x.Context(), x.dir); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), self) {
			x.Errorf("unmounted with %s: %v, which does not name process %s", name, err, self)
		}
		x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "changed"}))
		x.must(done())
	}
	x.unmount()
}

func testReadOnly(x *mount) {
	x.mount(volume.MountOptions{ReadOnly: true})
	for name, err := range map[string]error{
		"write":  os.WriteFile(x.at("a"), nil, 0o600),
		"create": os.WriteFile(x.at("new"), nil, 0o600),
		"remove": os.Remove(x.at("none")),
		"chmod":  os.Chmod(x.at("a"), 0o600),
		"rename": os.Rename(x.at("a"), x.at("z")),
		"times":  os.Chtimes(x.at("a"), time.Time{}, time.Unix(1, 0)),
	} {
		if !errors.Is(err, unix.EROFS) {
			x.Errorf("%s: %v", name, err)
		}
	}
	x.same("what is visible", x.visible(), x.base.Commit)
	x.unmount()
	x.same("a snapshot", x.snapshot(), x.base.Commit)
}

func testForeign(x *mount) {
	null := tt.Special(meta.CharDevice, 1, 3)
	suid := tt.File("#!/bin/sh\n").With(func(a *meta.Attr) { a.Mode = 0o4755 })
	x.base = x.open(tt.Commit(x.T, x.b, tt.Dir(nodes{"null": null, "suid": suid})))
	for _, o := range []volume.MountOptions{{Foreign: true}, {Foreign: true, ReadOnly: true}} {
		x.mount(o)
		if f, err := os.Open(x.at("null")); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOENT) {
			x.Errorf("%+v: a device was opened: %v, %v", o, f, err)
		}
		var st unix.Statfs_t
		x.must(unix.Statfs(x.m.Path(x.dir), &st))
		if st.Flags&unix.ST_NOSUID == 0 {
			x.Errorf("%+v: set-user-ID has an effect", o)
		}
		if !o.ReadOnly {
			x.same("a snapshot", x.snapshot(), x.base.Commit)
		}
		x.unmount()
		x.dir = x.TempDir()
	}
}

func testAttributes(x *mount) {
	x.base.Commit.NoXattrs = true
	x.mount(volume.MountOptions{})
	x.must(os.Lchown(x.at("link"), 1, 2))
	x.must(os.Chown(x.at("a"), 3, 4))
	x.must(os.Chmod(x.at("a"), 0o755|os.ModeSetuid))
	x.must(unix.Setxattr(x.at("dir"), "user.x", []byte("value"), 0))
	x.must(unix.Setxattr(x.at("a"), "trusted.x", []byte("value"), 0))
	x.must(unix.Setxattr(x.at("none"), "user.x", []byte("value"), 0))
	x.must(unix.Mknod(x.at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	x.must(unix.Mknod(x.at("socket"), unix.S_IFSOCK|0o600, 0))
	c := x.snapshot()
	x.same("a snapshot", c, x.visible())
	all := x.list(c)
	if a := all["a"]; a.UID != 3 || a.GID != 4 || a.Mode != 0o4755 || len(a.Xattrs) != 1 || a.Data != "data of a" {
		x.Errorf("a is %+v", a)
	}
	if l := all["link"]; l.UID != 1 || l.GID != 2 {
		x.Errorf("link is %+v", l)
	}
	if d := all["dir"]; len(d.Xattrs) != 1 || d.Xattrs[0].Name != "user.x" || string(d.Xattrs[0].Value) != "value" {
		x.Errorf("dir is %+v", d)
	}
	if len(all["none"].Xattrs) != 1 || c.NoXattrs {
		x.Errorf("none is %+v, and the commit says that there are no attributes: %v", all["none"], c.NoXattrs)
	}
	if all["null"].Type != meta.CharDevice.String() || all["socket"].Type != meta.Socket.String() {
		x.Errorf("%+v, %+v", all["null"], all["socket"])
	}
}

// testDefaultACL is for bases whose directories say what becomes of new files: those of the base are not new.
func testDefaultACL(x *mount) {
	inherited := []meta.Xattr{{Name: "system.posix_acl_default", Value: []byte("\x02\x00\x00\x00" +
		"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" +
		"\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff")}}
	own := func(a *meta.Attr) { a.Xattrs = inherited }
	both := tt.File("both")
	x.base = x.open(tt.Commit(x.T, x.b, tt.Dir(nodes{
		"d": tt.Dir(nodes{"e": tt.Dir(nodes{"one": both}), "other": both}).With(own),
	}).With(own), meta.Hardlink{Path: "d/other", Leader: "d/e/one"}))
	x.must(unix.Setxattr(x.dir, inherited[0].Name, inherited[0].Value, 0))
	x.mount(volume.MountOptions{})
	x.same("what is visible", x.visible(), x.base.Commit)
	x.same("a snapshot", x.snapshot(), x.base.Commit)
	x.write("d/new", "new")
	all := x.list(x.snapshot())
	if got := all["d/new"].Xattrs; len(got) != 1 || got[0].Name != "system.posix_acl_access" {
		x.Errorf("a new file has %q", got)
	}
	if got := all["d/e/one"].Xattrs; len(got) != 0 {
		x.Errorf("a file of the base has %q", got)
	}
}

func testLinkedLate(x *mount) {
	x.mount(volume.MountOptions{})
	open, err := os.OpenFile(x.at("a"), os.O_RDWR, 0) // copied up by this name, and remembered by the kernel
	x.must(err)
	defer open.Close()
	x.must(os.Link(x.at("a"), x.at("dir/a")))
	a, err := os.Stat(x.at("a"))
	x.must(err)
	b, err := os.Stat(x.at("dir/a"))
	x.must(err)
	if !os.SameFile(a, b) {
		x.Error("the two names are of two files")
	}
	x.must(os.Chmod(x.at("dir/a"), 0o600))
	if a, err = os.Stat(x.at("a")); err != nil || a.Mode().Perm() != 0o600 {
		x.Errorf("changed by one name, by the other it is %v, %v", a.Mode(), err)
	}
	x.must(unix.Renameat2(unix.AT_FDCWD, x.at("a"), unix.AT_FDCWD, x.at("dir/a"), unix.RENAME_EXCHANGE))
	x.must(open.Close())
	x.same("a snapshot", x.snapshot(), x.visible())
	x.unmount()
}

func testEscape(x *mount) {
	own := func(a *meta.Attr) {
		a.Xattrs = []meta.Xattr{{Name: "trusted.overlay.metacopy", Value: []byte{}}, {Name: "trusted.overlay.opaque", Value: []byte("y")},
			{Name: "trusted.overlay.redirect", Value: []byte("/etc")}}
	}
	x.base = x.open(tt.Commit(x.T, x.b, tt.Dir(nodes{
		"d": tt.Dir(nodes{"f": tt.File("f").With(own)}).With(own),
	})))
	if x.o.Full {
		if err := x.m.Mount(x.Context(), x.base, x.dir, x.o); !errors.Is(err, volume.ErrInvalid) {
			x.Errorf("a copy would steer the kernel, and: %v", err)
		}
		return
	}
	x.mount(volume.MountOptions{})
	x.same("what is visible", x.visible(), x.base.Commit)
	x.write("d/g", "g")
	x.must(os.Chmod(x.at("d/f"), 0o600))
	x.must(unix.Setxattr(x.at("d/g"), "trusted.overlay.opaque", []byte("y"), 0))
	c := x.snapshot()
	x.same("a snapshot", c, x.visible())
	x.wantFiles(c, map[string]string{"d": "/", "d/f": "f", "d/g": "g"})
	if got := x.list(c)["d/f"].Xattrs; len(got) != 3 {
		x.Errorf("attributes %q", got)
	}
}

func testOddPath(x *mount) {
	x.dir = filepath.Join(x.dir, `a,b:c\d "e"`)
	x.must(os.Mkdir(x.dir, 0o711))
	x.mount(volume.MountOptions{})
	x.write("a", "changed")
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "changed"}))
	x.unmount()
}

func testUnlinked(x *mount) {
	x.mount(volume.MountOptions{})
	f, err := os.OpenFile(x.at("a"), os.O_RDWR, 0)
	x.must(err)
	defer f.Close()
	x.must(os.Remove(x.at("a")))
	_, err = f.WriteAt([]byte("DATA"), 0)
	x.must(err)
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "-"}))
	got := make([]byte, 9)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "DATA of a" {
		x.Errorf("%q, %v", got, err)
	}
	x.must(f.Close())
	x.unmount()
}
