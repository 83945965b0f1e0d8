//go:build real

package restorer_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root")
	}
}

func owner(uid, gid uint32) func(*meta.Attr) {
	return func(a *meta.Attr) { a.UID, a.GID = uid, gid }
}

const (
	// An ACL as the kernel keeps it: u::rw-, u:1234:rwx, g::r--, m::rwx, o::---.
	acl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\xd2\x04\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
	// cap_net_raw=ep, version 2.
	capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// privileged has what only root may restore.
func privileged() tt.Node {
	n := unprivileged()
	for name, child := range map[string]tt.Node{
		"suid":    tt.File("owned").With(mode(0o6755)).With(owner(1000, 1001)),
		"ping":    tt.File("cap").With(mode(0o755)).With(owner(7, 8)).With(xattr("security.capability", capability)),
		"acl":     tt.File("acl").With(mode(0o670)).With(xattr("system.posix_acl_access", acl)),
		"trusted": tt.File("t").With(xattr("trusted.note", "\x00")),
		"linkown": tt.Symlink("x").With(owner(1000, 1000)).With(xattr("trusted.link", "l")),
		"null":    tt.Special(meta.CharDevice, 1, 3).With(mode(0o666)),
		"sda":     tt.Special(meta.BlockDevice, 8, 1).With(owner(0, 6)).With(xattr("trusted.dev", "d")),
		"wide":    tt.Special(meta.BlockDevice, 4000, 70000),
		"shared": tt.Dir(map[string]tt.Node{"f": tt.File("in a default ACL")}).With(mode(0o2770)).With(owner(0, 50)).
			With(xattr("system.posix_acl_default", acl)),
	} {
		n.Children[name] = child
	}
	return n
}

// openAs does not change the owners, as open does.
func openAs(t *testing.T, root tt.Node, links ...meta.Hardlink) *tree.Snapshot {
	t.Helper()
	b := tt.NewMemory()
	s, err := tree.Open(ctx, b, tt.Commit(t, b, root, links...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRealEverythingThatOnlyRootMayRestoreComesBack(t *testing.T) {
	needRoot(t)
	s := openAs(t, privileged(), hardlinks...)
	dst := filepath.Join(tempDir(t), "dst")
	restore(t, s, "", dst, options{})
	equal(t, s, "", dst)
	if r := restore(t, s, "", dst, options{Delete: true}); r.Made+r.Replaced+r.Adjusted+r.Removed != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRealWhatOnlyRootMayRestoreImportsToTheSameCIDs(t *testing.T) {
	needRoot(t)
	b := tt.NewMemory()
	dst, again := tempDir(t), tempDir(t)
	restore(t, openAs(t, privileged(), hardlinks...), "", dst, options{})
	s := imported(t, b, dst)
	restore(t, s, "", again, options{})
	sameSnapshot(t, s, imported(t, b, again))
}

func TestRealEveryAttributeIsRepaired(t *testing.T) {
	needRoot(t)
	s := openAs(t, privileged(), hardlinks...)
	for name, change := range map[string]func(dst string) error{
		"owner":      func(dst string) error { return os.Chown(dst+"/suid", 5, 5) },
		"capability": func(dst string) error { return os.Chown(dst+"/ping", 5, 5) },
		"acl":        func(dst string) error { return unix.Removexattr(dst+"/acl", "system.posix_acl_access") },
		"new acl":    func(dst string) error { return unix.Setxattr(dst+"/empty", "system.posix_acl_access", []byte(acl), 0) },
		"link owner": func(dst string) error { return os.Lchown(dst+"/linkown", 5, 5) },
		"link xattr": func(dst string) error { return unix.Lsetxattr(dst+"/link", "trusted.x", []byte("1"), 0) },
		"device": func(dst string) error {
			return errors.Join(os.Remove(dst+"/null"), unix.Mknod(dst+"/null", unix.S_IFCHR, 0x105))
		},
		"dev mode": func(dst string) error { return os.Chmod(dst+"/sda", 0o777) },
		"default acl above": func(dst string) error {
			return errors.Join(os.RemoveAll(dst+"/a"), os.Remove(dst+"/empty"), os.Remove(dst+"/fifo"), os.Remove(dst+"/null"),
				unix.Setxattr(dst, "system.posix_acl_default", []byte(acl), 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dst := tempDir(t)
			restore(t, s, "", dst, options{})
			if err := change(dst); err != nil {
				t.Fatal(err)
			}
			restore(t, s, "", dst, options{})
			equal(t, s, "", dst)
		})
	}
}

func TestRealASnapshotOfAnotherHostIsRestoredWithoutWhatCouldDoHarm(t *testing.T) {
	needRoot(t)
	s := openAs(t, privileged())
	dst := tempDir(t)
	r, err := restorer.Restore(ctx, s, "", dst, options{Foreign: true})
	if err != nil {
		t.Fatal(err)
	}
	want := wanted(t, s, "")
	for _, device := range []string{"null", "sda", "wide"} {
		delete(want, device)
	}
	for path, o := range want {
		o.Mode &^= meta.Setuid | meta.Setgid
		if path == "ping" || path == "trusted" || path == "linkown" {
			o.Xattrs = ""
		}
		want[path] = o
	}
	if d := cmp.Diff(want, found(t, dst)); d != "" {
		t.Error(d)
	}
	left := []restorer.Omission{
		{Kind: restorer.OmitDevice, Foreign: true, Count: 3, Paths: []string{"null", "sda", "wide"}},
		{Kind: restorer.OmitSetuid, Foreign: true, Count: 3, Paths: []string{"script", "shared", "suid"}},
		{Kind: restorer.OmitXattr, Foreign: true, Count: 3},
	}
	r.Omitted[2].Paths = nil // their order is that of the workers
	if d := cmp.Diff(left, r.Omitted); d != "" {
		t.Error(d)
	}
	restore(t, s, "", dst, options{Foreign: true, Privileged: true})
	equal(t, s, "", dst)
}

// asNobody runs tests of this binary as a user without rights: those whose names match, among which are some.
func asNobody(t *testing.T, tests string, among ...string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "restorer-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe := filepath.Join(dir, "test")
	data, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(exe, data, 0o755), os.Chmod(dir, 0o755), os.Mkdir(dir+"/tmp", 0o700), os.Chown(dir+"/tmp", nobody, nobody))
	}
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe, "-test.v", "-test.run", "^"+tests+"$")
	child.Dir = dir + "/tmp"
	child.Env = append(os.Environ(), "RESTORER_TEST_CHILD=tests", "TMPDIR="+dir+"/tmp", "HOME="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(among) == 0 {
		among = []string{tests}
	}
	for _, name := range among {
		if !bytes.Contains(out, []byte("--- PASS: "+name+" ")) {
			t.Errorf("%s was not run:\n%s", name, out)
		}
	}
}

func TestRealTheTestsPassWithoutRights(t *testing.T) {
	needRoot(t)
	asNobody(t, "Test[^R].*", "TestEveryKindOfFileAndAttributeComesBack", "TestAfterAKillTheNextRunCompletes")
}

func TestRealWithoutRightsWhatMayBeIsRestoredAndTheRestIsTold(t *testing.T) {
	if os.Getenv("RESTORER_TEST_CHILD") == "" {
		needRoot(t)
		asNobody(t, t.Name())
		return
	}
	if os.Geteuid() != nobody {
		t.Fatalf("run as user %d", os.Geteuid())
	}
	s := openAs(t, changed(privileged().Owned(nobody, nobody)))
	dst := tempDir(t)
	r, err := restorer.Restore(ctx, s, "", dst, options{})
	if err != nil {
		t.Fatal(err)
	}
	want := wanted(t, s, "")
	for _, device := range []string{"null", "sda", "wide"} {
		delete(want, device)
	}
	got := found(t, dst)
	for path, o := range want {
		switch path {
		case "suid":
			o.Mode, o.UID, o.GID = 0o755, nobody, nobody
		case "empty":
			o.UID, o.GID = nobody, nobody
		case "ping", "trusted", "linkown":
			o.Xattrs = ""
		}
		want[path] = o
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	counts := map[restorer.OmissionKind]uint64{}
	for _, o := range r.Omitted {
		counts[o.Kind] = o.Count
	}
	if d := cmp.Diff(map[restorer.OmissionKind]uint64{"owner": 2, "setuid": 1, "device": 3, "xattr": 3}, counts); d != "" {
		t.Error(d)
	}
}

func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestRealAFullDiskIsOneErrorAndLeavesWholeFiles(t *testing.T) {
	needRoot(t)
	dst := filepath.Join(tempDir(t), "small")
	mount(t, dst, "size=200k")
	s := openAs(t, tt.Dir(map[string]tt.Node{"a": tt.File(noise(1, 50_000)), "b": tt.File(noise(2, 150_000)), "c": tt.File(noise(3, 100_000))}))
	_, err := restorer.Restore(ctx, s, "", dst, options{})
	if !errors.Is(err, unix.ENOSPC) || strings.Count(err.Error(), "no space") != 1 {
		t.Fatal(err)
	}
	wholeFiles(t, wanted(t, s, ""), nil, dst)
	if err := unix.Mount("", dst, "", unix.MS_REMOUNT, "size=10m"); err != nil {
		t.Fatal(err)
	}
	restore(t, s, "", dst, options{})
	equal(t, s, "", dst)
}

func TestRealOtherFilesystemsAreNotEmptied(t *testing.T) {
	needRoot(t)
	s := openAs(t, tt.Dir(map[string]tt.Node{"f": tt.File("x")}))
	dst := tempDir(t)
	mount(t, filepath.Join(dst, "old/mnt"), "")
	precious := filepath.Join(dst, "old/mnt/precious")
	if err := errors.Join(os.WriteFile(precious, nil, 0o600), os.WriteFile(filepath.Join(dst, "old/f"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := restorer.Restore(ctx, s, "", dst, options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]restorer.Omission{{Kind: restorer.OmitMount, Count: 1, Paths: []string{"old/mnt"}}}, r.Omitted); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dst, "old/f")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestRealARestoreIntoAMountPointIsSynced(t *testing.T) {
	needRoot(t)
	s := openAs(t, tt.Dir(map[string]tt.Node{"m": tt.Dir(map[string]tt.Node{"a": tt.File("x"), "b": tt.File("x")}), "z": tt.File("x")}),
		meta.Hardlink{Path: "m/b", Leader: "m/a"}, meta.Hardlink{Path: "z", Leader: "m/a"})
	dst := tempDir(t)
	mount(t, filepath.Join(dst, "m"), "")
	r, err := restorer.Restore(ctx, s, "", dst, options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]restorer.Omission{{Kind: restorer.OmitHardlink, Count: 1, Paths: []string{"z"}}}, r.Omitted); d != "" {
		t.Error(d)
	}
	f, err := os.Open(filepath.Join(dst, "z"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "x" {
		t.Errorf("%q %v", data, err)
	}
}

// changed gives two files owners that nobody may not give them.
func changed(n tt.Node) tt.Node {
	n.Children["suid"] = n.Children["suid"].With(owner(1000, 1001))
	n.Children["empty"] = n.Children["empty"].With(owner(0, 0))
	return n
}
