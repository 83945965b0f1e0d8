//go:build real

package overlay_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/meta"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

// memory is a volume.Session without a memory of files.
type memory struct{ *blockstest.Memory }

func (memory) Close() error                                          { return nil }
func (memory) LoadStat(context.Context, []byte) ([]byte, error)      { return nil, nil }
func (memory) SaveStat(context.Context, []importer.StatRecord) error { return nil }
func (memory) Adopt(_ context.Context, r []cid.Cid) ([]bool, error)  { return make([]bool, len(r)), nil }

func TestRealNamesThatCannotBeHadDoNotKeepABaseFromBeingMounted(t *testing.T) {
	disk := disktest.New(t, 64<<20)
	file := tt.File("data")
	with := func(name string, value []byte) tt.Node {
		return file.With(func(a *meta.Attr) { a.Xattrs = []meta.Xattr{{Name: name, Value: value}} })
	}
	large := with("user.large", bytes.Repeat([]byte("x"), 30_000))
	malformed := with("system.posix_acl_access", []byte("malformed"))
	deep, at := tt.Dir(children{"one": file, "two": file}), ""
	for range 25 {
		name := strings.Repeat("d", 200)
		deep, at = tt.Dir(children{name: deep}), at+name+"/"
	}
	link := func(path, leader string) meta.Hardlink { return meta.Hardlink{Path: path, Leader: leader} }
	for name, c := range map[string]struct {
		tree  children
		links []meta.Hardlink
	}{
		"an attribute too large for the disk": {children{"one": large, "two": large}, []meta.Hardlink{link("two", "one")}},
		"a directory's attribute too large": {children{"dir": tt.Dir(children{"two": file}).With(func(a *meta.Attr) {
			a.Xattrs = []meta.Xattr{{Name: "user.large", Value: bytes.Repeat([]byte("x"), 30_000)}}
		}), "above": file}, []meta.Hardlink{link("dir/two", "above")}},
		"a malformed attribute":    {children{"one": malformed, "two": malformed}, []meta.Hardlink{link("two", "one")}},
		"a path too long":          {children{"deep": deep}, []meta.Hardlink{link("deep/"+at+"two", "deep/"+at+"one")}},
		"a name of two files":      {children{"a": file, "b": file, "c": file}, []meta.Hardlink{link("b", "a"), link("c", "b")}},
		"names below files":        {children{"a": file, "b": file}, []meta.Hardlink{link("b", "a/x"), link("b/y", "a")}},
		"names that are not there": {children{"a": file}, []meta.Hardlink{link("x", "a"), link("y", "w")}},
	} {
		t.Run(name, func(t *testing.T) {
			b := memory{blockstest.NewMemory()}
			c.tree["zz-1"], c.tree["zz-2"] = tt.File("kept"), tt.File("kept")
			base := open(t, b, tt.Commit(t, b, tt.Dir(c.tree), append(c.links, link("zz-2", "zz-1"))...))
			dir, err := os.MkdirTemp(disk.Mount, "")
			must(t, err)
			m := overlay.New(holder.NewLower(holder.LowerOptions{}))
			must(t, m.Mount(t.Context(), base, dir, volume.MountOptions{Foreign: true}))
			t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
			got, _, err := m.Snapshot(t.Context(), b, base, dir, importer.Options{NoIgnoreFile: true, Cache: b})
			must(t, err)
			// A table that contradicts itself becomes one that does not.
			if got.Tree != base.Commit.Tree || got.Meta != base.Commit.Meta && name != "a name of two files" {
				t.Errorf("unchanged, it is tree %s, sidecar %s, not %s, %s", got.Tree, got.Meta, base.Commit.Tree, base.Commit.Meta)
			}
			must(t, os.WriteFile(filepath.Join(m.Path(dir), "zz-1"), []byte("both"), 0o644))
			if data, err := os.ReadFile(filepath.Join(m.Path(dir), "zz-2")); err != nil || string(data) != "both" {
				t.Errorf("written by another name it is %q, %v", data, err)
			}
		})
	}
}

func TestRealABadTopDirectoryIsSaidToBeOfItsSnapshot(t *testing.T) {
	b := blockstest.NewMemory()
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"a": tt.File("a")}).With(func(a *meta.Attr) {
		a.Xattrs = []meta.Xattr{{Name: "system.posix_acl_access", Value: []byte("malformed")}}
	})))
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	dir := t.TempDir()
	err := m.Mount(t.Context(), base, dir, volume.MountOptions{})
	t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
	if err == nil || !strings.Contains(err.Error(), base.CID.String()) || !strings.Contains(err.Error(), "posix_acl_access") {
		t.Errorf("mounted: %v", err)
	}
}

func TestRealOthersHaveNoWayBesideTheMount(t *testing.T) {
	b := blockstest.NewMemory()
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"a": tt.File("a").With(func(a *meta.Attr) { a.Mode = 0o666 })}).With(func(a *meta.Attr) { a.Mode = 0o777 })))
	for _, o := range []volume.MountOptions{{}, {Full: true}, {ReadOnly: true}} {
		dir := openDir(t)
		m := overlay.New(holder.NewLower(holder.LowerOptions{}))
		must(t, m.Mount(t.Context(), base, dir, o))
		t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
		others(t, func() {
			for _, path := range []string{"closed", "closed/base", "closed/base/a", "copied/base/a", "layers", "layers/upper", "layers/work"} {
				if fd, err := unix.Open(filepath.Join(dir, path), unix.O_RDONLY, 0); err == nil {
					unix.Close(fd)
					t.Errorf("%+v: %s can be opened", o, path)
				} else if err != unix.EACCES && err != unix.ENOENT {
					t.Errorf("%+v: open %s: %v", o, path, err)
				}
			}
			fd, err := unix.Open(filepath.Join(m.Path(dir), "a"), unix.O_RDONLY, 0)
			if err != nil {
				t.Errorf("%+v: through the mount: %v", o, err)
			}
			unix.Close(fd)
		})
	}
}

// openDir is a directory that others can enter, as those of overlays are.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "overlay")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o711))
	return dir
}

// others does something as a user who has no rights here. Its thread ends with it.
func others(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			done <- errno
			return
		}
		do()
		done <- nil
	}()
	must(t, <-done)
}
