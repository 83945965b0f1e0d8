//go:build real

package modeltest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/modeltest"
)

// targets are the kinds of entries that each directory of the table has, and names that are none.
func targets() []string {
	return []string{"file", "empty", "private", "dir", "full", "full/file", "link", "dangling", "todir", "loop", "fifo", "socket", "null",
		"missing", "file/below", "missing/below", "loop/below", ".", "..", strings.Repeat("n", 255), strings.Repeat("n", 256)}
}

// makeTargets makes them in a directory.
func makeTargets(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"file": 0o644, "empty": 0o666, "private": 0o600} {
		content := "content"
		if name == "empty" {
			content = ""
		}
		must(t, os.WriteFile(in(name), []byte(content), mode))
	}
	must(t, os.MkdirAll(in("dir"), 0o755))
	must(t, os.MkdirAll(in("full"), 0o755))
	must(t, os.WriteFile(in("full/file"), []byte("below"), 0o644))
	for name, to := range map[string]string{"link": "file", "dangling": "missing", "todir": "full", "loop": "loop"} {
		must(t, os.Symlink(to, in(name)))
	}
	must(t, unix.Mknod(in("fifo"), unix.S_IFIFO|0o644, 0))
	must(t, unix.Mknod(in("socket"), unix.S_IFSOCK|0o644, 0))
	must(t, unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
}

// questions are the operations on one entry, and those on two.
func questions() (one, two []modeltest.Op) {
	for _, flags := range []int{
		unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_RDWR | unix.O_TRUNC,
		unix.O_RDONLY | unix.O_DIRECTORY, unix.O_RDONLY | unix.O_NOFOLLOW, unix.O_PATH | unix.O_NOFOLLOW, unix.O_WRONLY | unix.O_APPEND,
		unix.O_RDWR | unix.O_TMPFILE, unix.O_RDONLY | unix.O_NOATIME, unix.O_RDWR | unix.O_SYNC,
	} {
		one = append(one, modeltest.Op{Kind: "open", Off: int64(flags), Mode: 0o640})
	}
	for _, kind := range []string{"stat", "readlink", "list", "unlink", "rmdir"} {
		one = append(one, modeltest.Op{Kind: kind})
	}
	for _, mode := range []uint32{0, 0o644, 0o4755, 0o2755, 0o1777} {
		one = append(one, modeltest.Op{Kind: "chmod", Mode: mode})
	}
	for _, mode := range []uint32{unix.R_OK, unix.W_OK, unix.X_OK} {
		one = append(one, modeltest.Op{Kind: "access", Mode: mode})
	}
	for _, id := range []int64{0, 1000, 2000} {
		one = append(one, modeltest.Op{Kind: "chown", Off: id, Len: -1}, modeltest.Op{Kind: "chown", Off: -1, Len: id})
	}
	for _, size := range []int64{0, 3, 100_000, -1} {
		one = append(one, modeltest.Op{Kind: "truncate", Len: size})
	}
	for _, name := range []string{"other.x", "user."} {
		one = append(one, modeltest.Op{Kind: "setxattr", Name: name, Value: "value"})
	}
	for _, name := range []string{"user.x", "trusted.x", "trusted.overlay.x", "security.x", "system.posix_acl_access"} {
		one = append(one, modeltest.Op{Kind: "setxattr", Name: name, Value: "value"}, modeltest.Op{Kind: "removexattr", Name: name},
			modeltest.Op{Kind: "getxattr", Name: name})
	}
	for _, mode := range []uint32{unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFDIR} {
		one = append(one, modeltest.Op{Kind: "mknod", Mode: mode | 0o644})
	}
	one = append(one, modeltest.Op{Kind: "mkdir", Mode: 0o755}, modeltest.Op{Kind: "symlink", Value: "to"}, modeltest.Op{Kind: "symlink", Value: ""},
		modeltest.Op{Kind: "symlink", Value: strings.Repeat("s", 4095)}, modeltest.Op{Kind: "symlink", Value: strings.Repeat("s", 4096)},
		modeltest.Op{Kind: "times", Off: 1e18}, modeltest.Op{Kind: "append", Len: 5}, modeltest.Op{Kind: "punch", Off: 0, Len: 4096},
		modeltest.Op{Kind: "allocate", Off: 10, Len: 4096}, modeltest.Op{Kind: "allocate", Len: 0}, modeltest.Op{Kind: "zero", Off: -1, Len: 1})
	two = []modeltest.Op{{Kind: "link"}, {Kind: "rename"}, {Kind: "rename", Mode: unix.RENAME_NOREPLACE}, {Kind: "rename", Mode: unix.RENAME_EXCHANGE},
		{Kind: "rename", Mode: 1 << 10}}
	return one, two
}

// TestRealAVolumeAnswersAsAnOverlayOfPlainDirectories asks the same of a volume and of overlayfs on ext4, each
// question in a directory of its own.
func TestRealAVolumeAnswersAsAnOverlayOfPlainDirectories(t *testing.T) {
	for name, who := range map[string]struct {
		uid  int
		prep func(dir string) error // of each directory
	}{
		"as root":                   {0, func(string) error { return nil }},
		"in a directory of one's":   {1000, func(dir string) error { return os.Chown(dir, 1000, 1000) }},
		"in a directory for all":    {1000, func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }},
		"in a directory of another": {1000, func(string) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := questions()
			pair := twoOverlays(t, len(one)+len(two)*len(targets()), who.prep)
			defer pair.Close()
			asked := 0
			ask := func(o modeltest.Op) {
				asked++
				var err error
				as(t, who.uid, func() { err = pair.Do(o) })
				if err != nil {
					t.Error(err)
				}
			}
			dir := 0
			next := func() string { dir++; return fmt.Sprintf("t%04d/", dir-1) }
			for _, o := range one {
				at := next()
				for _, target := range targets() {
					o.Path = at + target
					ask(o)
				}
			}
			for _, o := range two {
				for _, from := range targets() {
					at := next()
					for _, to := range targets() {
						o.Path, o.To = at+from, at+to
						ask(o)
					}
				}
			}
			errs := 0
			for _, n := range pair.Errors() {
				errs += n
			}
			t.Logf("%d questions, %d of them an error on both sides, of %d kinds", asked, errs, len(pair.Errors()))
			if len(pair.Errors()) < 100 {
				t.Error("errors of so few kinds: were the directories reached at all?")
			}
		})
	}
}

// twoOverlays makes a tree with directories of targets, a volume of it, and an overlay of plain directories.
func twoOverlays(t *testing.T, dirs int, prep func(string) error) *modeltest.Pair {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	disk := disktest.New(t, 2<<30)
	in := func(name string) string { return filepath.Join(disk.Mount, name) }
	for _, dir := range []string{disk.Mount, filepath.Dir(disk.Mount), filepath.Dir(filepath.Dir(disk.Mount))} {
		must(t, os.Chmod(dir, 0o755)) // others ask, too
	}
	for _, name := range []string{"lower", "upper", "work", "merged", "state"} {
		must(t, os.Mkdir(in(name), 0o755))
	}
	for n := range dirs {
		dir := in(fmt.Sprintf("lower/t%04d", n))
		makeTargets(t, dir)
		must(t, prep(dir))
	}
	// Of a base in which no entry has an attribute, a volume says ENOTSUP instead of ENODATA.
	must(t, unix.Setxattr(in("lower"), "user.base", []byte("value"), 0))
	m := &machine{dir: in("state")}
	must(t, m.open(ctx))
	_, err := m.Do(ctx, &volume.Create{Name: name, From: m.imported(t, in("lower"))})
	must(t, err)
	res, err := m.Do(ctx, &volume.Mount{Name: name})
	must(t, err)
	t.Cleanup(func() {
		_, err := m.Do(ctx, &volume.Unmount{Name: name})
		must(t, err)
		must(t, m.close())
	})
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,index=off,metacopy=on,redirect_dir=on,xino=on", in("lower"), in("upper"), in("work"))
	must(t, unix.Mount("plain", in("merged"), "overlay", 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(in("merged"), 0)) })
	// The way to the volume is not for everybody, so others are led by a mount of their own.
	must(t, os.Mkdir(in("volume"), 0o755))
	must(t, unix.Mount(res.Path, in("volume"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(in("volume"), 0)) })
	return modeltest.NewPair(in("volume"), in("merged"))
}

// imported makes a commit of a directory, and returns its CID.
func (m *machine) imported(t *testing.T, dir string) string {
	t.Helper()
	ctx := t.Context()
	s, err := m.store.Session(ctx)
	must(t, err)
	defer s.Close()
	r, err := importer.Import(ctx, s, dir, importer.Options{})
	must(t, err)
	must(t, snapshot.Extend(ctx, s, r.Commit))
	blk, err := snapshot.EncodeCommit(r.Commit)
	must(t, err)
	must(t, s.Put(ctx, blk))
	must(t, m.pins.MarkOwn(ctx, blk.Cid()))
	return blk.Cid().String()
}

// as does something as a user. The thread is given up afterwards.
func as(t *testing.T, uid int, do func()) {
	t.Helper()
	if uid == 0 {
		do()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its user
		for _, set := range []struct{ call, id uintptr }{{unix.SYS_SETGROUPS, 0}, {unix.SYS_SETRESGID, uintptr(uid)}, {unix.SYS_SETRESUID, uintptr(uid)}} {
			if _, _, errno := unix.RawSyscall(set.call, set.id, set.id, set.id); errno != 0 && set.call != unix.SYS_SETGROUPS {
				done <- errno
				return
			}
		}
		do()
		done <- nil
	}()
	must(t, <-done)
}
