//go:build real

package importer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

// ipfs returns a function that runs `ipfs add` of the profile unixfs-v1-2025 on a directory, storing nothing.
func ipfs(t *testing.T) func(dir string) string {
	t.Helper()
	bin, err := exec.LookPath("ipfs")
	if err != nil {
		t.Fatalf("%v: build it with make tools, and have .cache/bin in PATH", err)
	}
	repo := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.Command(bin, args...)
		cmd.Env = append(os.Environ(), "IPFS_PATH="+repo)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ipfs %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "--profile=unixfs-v1-2025")
	return func(dir string) string { return run("add", "-r", "--hidden", "-Q", "--only-hash", dir) }
}

func TestRealTreesEqualThoseOfIPFSAdd(t *testing.T) {
	add := ipfs(t)
	file := func(dir, name string, size int64) {
		f, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		_, err = f.Write(noise(int(min(size, 5<<20))))
		must(t, err)
		must(t, f.Truncate(size))
		must(t, f.Close())
	}
	names := func(dir string, n int, format string) {
		for i := range n {
			write(t, filepath.Join(dir, fmt.Sprintf(format, i)), fmt.Sprint(i%10))
		}
	}
	// A link of a name of 200 bytes and one byte of content takes 246 bytes, the directory itself 4: 1065 links
	// and one of a name of 105 bytes are 256 KiB.
	threshold := func(last int) func(dir string) {
		return func(dir string) {
			names(dir, 1065, "%0200d")
			write(t, filepath.Join(dir, strings.Repeat("x", last)), "x")
		}
	}
	for name, build := range map[string]func(dir string){
		"empty":          func(string) {},
		"empty contents": func(dir string) { file(dir, "file", 0); must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755)) },
		"sizes of files": func(dir string) {
			for _, size := range []int64{1, 100, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, 3<<20 + 7} {
				file(dir, fmt.Sprint(size), size)
			}
		},
		"1024 chunks": func(dir string) { file(dir, "f", 1024<<20) },
		"1025 chunks": func(dir string) { file(dir, "f", 1024<<20+1) },
		"symlinks": func(dir string) {
			for i, target := range []string{"x", "..", "/abs", "a b\n", "ü", strings.Repeat("t", 4000)} {
				must(t, os.Symlink(target, filepath.Join(dir, fmt.Sprint(i))))
			}
		},
		"odd names": func(dir string) {
			for _, n := range []string{" ", "a b", "a\nb", `"q"`, "'", `back\slash`, "%41", "ünï", "日本", "\xff\xfe", ".hidden", "...", "-f", "~", "*", "a+b", "a&b=c?d#e", strings.Repeat("n", 255)} {
				write(t, filepath.Join(dir, n), n)
				write(t, filepath.Join(dir, "d"+n[:min(len(n), 254)], n), n)
			}
		},
		"a byte below the threshold": threshold(104),
		"at the threshold":           threshold(105),
		"a byte above the threshold": threshold(106),
		"far above the threshold":    func(dir string) { names(dir, 6000, "a-name-long-enough-%0180d") },
		"shards in shards": func(dir string) {
			names(dir, 6000, "short-%05d")
			names(filepath.Join(dir, "below"), 5000, "a-name-long-enough-%0180d")
		},
		"this source": func(dir string) {
			if out, err := exec.Command("cp", "-a", filepath.Join(goroot(t), "src/go"), dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := t.TempDir(), newMemory()
			build(dir)
			want := add(dir)
			if got := imported(t, m, dir, Options{}).Commit.Tree.String(); got != want {
				t.Errorf("got %s, ipfs makes %s", got, want)
			}
		})
	}
}

func TestRealDevicesTrustedAttributesAndACLsAreCaptured(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, unix.Mknod(at("char"), unix.S_IFCHR|0o620, int(unix.Mkdev(500, 70000))))
	must(t, unix.Chmod(at("char"), 0o620))
	must(t, unix.Mknod(at("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 1))))
	write(t, at("file"), "x")
	must(t, os.Lchown(at("file"), 1234, 99999))
	must(t, os.Symlink("t", at("link")))
	must(t, os.Lchown(at("link"), 5, 6))
	must(t, unix.Lsetxattr(at("link"), "trusted.l", []byte("on a link"), 0))
	must(t, unix.Lsetxattr(at("char"), "trusted.c", []byte("on a device"), 0))
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	must(t, unix.Setxattr(at("file"), "security.capability", capability, 0))
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0, 4, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	must(t, unix.Setxattr(at("file"), "system.posix_acl_access", acl, 0))
	all := rows(t, m, imported(t, m, dir, Options{}).Commit)
	if r := all["char"]; r.Type != meta.CharDevice || r.Major != 500 || r.Minor != 70000 || r.Mode != 0o620 {
		t.Errorf("char = %+v", r)
	}
	if r := all["block"]; r.Type != meta.BlockDevice || r.Major != 7 || r.Minor != 1 {
		t.Errorf("block = %+v", r)
	}
	if r := all["file"]; r.UID != 1234 || r.GID != 99999 {
		t.Errorf("file = %+v", r)
	}
	if r := all["link"]; r.UID != 5 || r.GID != 6 || r.Mode != 0o777 {
		t.Errorf("link = %+v", r)
	}
	for path, want := range map[string][]meta.Xattr{
		"link": {{Name: "trusted.l", Value: []byte("on a link")}},
		"char": {{Name: "trusted.c", Value: []byte("on a device")}},
		"file": {{Name: "security.capability", Value: capability}, {Name: "system.posix_acl_access", Value: acl}},
	} {
		if diff := cmp.Diff(want, all[path].Xattrs); diff != "" {
			t.Errorf("xattrs of %s (-want +got):\n%s", path, diff)
		}
	}
}

func TestRealMountPointsAreLeftEmptyOnOneFileSystem(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	at := filepath.Join(dir, "a/mount")
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0750"))
	defer unix.Unmount(at, unix.MNT_DETACH)
	write(t, filepath.Join(at, "inside"), "x")
	r := imported(t, m, dir, Options{OneFileSystem: true})
	if diff := cmp.Diff(map[string]string{"a": "/", "a/mount": "/"}, files(t, m, r.Commit.Tree)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if !slices.Equal(r.Skipped, []string{"a/mount"}) || rows(t, m, r.Commit)["a/mount"].Mode != 0o750 {
		t.Errorf("skipped %q", r.Skipped)
	}
	if got := files(t, m, imported(t, m, dir, Options{}).Commit.Tree)["a/mount/inside"]; got != "x" {
		t.Errorf("across file systems: %q", got)
	}
}

func TestRealNothingOnTmpfsIsRemembered(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	write(t, filepath.Join(dir, "f"), "x")
	age()
	again(t, m, dir)
	if n, _ := again(t, m, dir); n != 1 || len(m.stats) > 0 {
		t.Errorf("%d files were opened, %d records saved", n, len(m.stats))
	}
}
