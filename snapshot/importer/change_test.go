package importer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

const large = 3 << 20 // read in several jobs

func TestAFileThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	for _, o := range []Options{{}, {Chunker: "buzhash"}} {
		for _, size := range []int{100, large} {
			dir, m := t.TempDir(), newMemory()
			path := filepath.Join(dir, "f")
			write(t, path, strings.Repeat("a", size))
			changes := 1
			r, err := importDir(t.Context(), m, dir, o, hooks{read: func(string) {
				if changes > 0 {
					changes--
					write(t, path, strings.Repeat("b", size+1))
				}
			}})
			must(t, err)
			if got := files(t, m, r.Commit.Tree)["f"]; got != strings.Repeat("b", size+1) {
				t.Errorf("chunker %q, %d bytes: the snapshot holds %d bytes, %.1q", o.Chunker, size, len(got), got)
			}
			if len(r.Unsettled) > 0 || r.Commit.Stats.Bytes != uint64(size+1) {
				t.Errorf("unsettled: %q, stats: %+v", r.Unsettled, r.Commit.Stats)
			}
		}
	}
}

func TestAFileThatNeverSettlesIsNamedAndNotCached(t *testing.T) {
	for _, size := range []int{100, large} {
		dir, m := diskDir(t), newMemory()
		path := filepath.Join(dir, "d/f")
		write(t, path, strings.Repeat("a", size))
		readings := 0
		r, err := importDir(t.Context(), m, dir, Options{Cache: m}, hooks{read: func(string) {
			readings++
			must(t, unix.Setxattr(path, "user.n", []byte{byte(readings)}, 0))
		}})
		must(t, err)
		if !slices.Equal(r.Unsettled, []string{"d/f"}) || readings != maxTries {
			t.Errorf("unsettled: %q after %d readings", r.Unsettled, readings)
		}
		if n, _ := again(t, m, dir); n != 1 {
			t.Errorf("the next run opened %d files, want 1", n)
		}
	}
}

func TestAFileCutShortWhileItIsReadIsAsLongAsWhatWasRead(t *testing.T) {
	for _, o := range []Options{{}, {Chunker: "buzhash"}} {
		dir, m := t.TempDir(), newMemory()
		path := filepath.Join(dir, "f")
		write(t, path, strings.Repeat("a", 4*large))
		size := int64(4 * large)
		r, err := importDir(t.Context(), m, dir, o, hooks{reading: func(string) {
			size -= large
			must(t, os.Truncate(path, size))
		}})
		must(t, err)
		if !slices.Equal(r.Unsettled, []string{"f"}) {
			t.Errorf("unsettled: %q", r.Unsettled)
		}
		if got := files(t, m, r.Commit.Tree)["f"]; int64(len(got)) != size || r.Commit.Stats.Bytes != uint64(size) {
			t.Errorf("chunker %q: %d bytes in the tree, %d in the statistics, want %d", o.Chunker, len(got), r.Commit.Stats.Bytes, size)
		}
	}
}

func TestWhatVanishesIsNotThere(t *testing.T) {
	top, m := t.TempDir(), newMemory()
	write(t, filepath.Join(top, "kept"), "kept")
	write(t, filepath.Join(top, "listed"), "x")
	write(t, filepath.Join(top, "dir/x"), "x")
	write(t, filepath.Join(top, "opened"), "x")
	write(t, filepath.Join(top, "linked1"), "linked")
	must(t, os.Link(filepath.Join(top, "linked1"), filepath.Join(top, "linked2")))
	var once atomic.Bool
	r, err := importDir(t.Context(), m, top, Options{Workers: 1}, hooks{
		listed: func(d *dir) {
			if d.parent == nil && once.CompareAndSwap(false, true) {
				os.Remove(filepath.Join(top, "listed"))
				os.RemoveAll(filepath.Join(top, "dir"))
			}
		},
		opening: func(name string) {
			if name == "opened" || name == "linked1" {
				os.Remove(filepath.Join(top, name))
			}
		},
	})
	must(t, err)
	want := map[string]string{"kept": "kept", "linked2": "linked"}
	if diff := cmp.Diff(want, files(t, m, r.Commit.Tree)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if all := rows(t, m, r.Commit); len(all) != 3 {
		t.Errorf("sidecar: %v", all)
	}
	if r.Commit.Stats.Bytes != 10 {
		t.Errorf("stats: %+v", r.Commit.Stats)
	}
}

func TestWhatIsReplacedBeforeItIsOpenedIsWhatItHasBecome(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	replace := map[string]func(path string) error{
		"file":    func(p string) error { return os.WriteFile(p, []byte("new"), 0o600) },
		"symlink": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"fifo":    func(p string) error { return unix.Mkfifo(p, 0o600) },
		"dir":     func(p string) error { return os.MkdirAll(filepath.Join(p, "below"), 0o755) },
	}
	for name := range replace {
		write(t, filepath.Join(dir, name), "old")
		write(t, filepath.Join(dir, "was-a-dir-"+name, "x"), "old")
		must(t, os.Link(filepath.Join(dir, name), filepath.Join(dir, "z-linked-"+name)))
	}
	r, err := importDir(t.Context(), m, dir, Options{Workers: 1}, hooks{
		opening: func(name string) {
			path := filepath.Join(dir, name)
			if change := replace[name]; change != nil {
				delete(replace, name)
				must(t, os.Remove(path))
				must(t, change(path))
				d := filepath.Join(dir, "was-a-dir-"+name)
				must(t, os.RemoveAll(d))
				must(t, change(d))
			}
		},
	})
	must(t, err)
	want := map[string]string{
		"z-linked-file": "old", "z-linked-symlink": "old", "z-linked-fifo": "old", "z-linked-dir": "old",
		"file": "new", "was-a-dir-file": "new", "symlink": "-> /etc/passwd", "was-a-dir-symlink": "-> /etc/passwd",
		"dir": "/", "dir/below": "/", "was-a-dir-dir": "/", "was-a-dir-dir/below": "/",
	}
	if diff := cmp.Diff(want, files(t, m, r.Commit.Tree)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	all := rows(t, m, r.Commit)
	if all["fifo"].Type.String() != "fifo" || all["was-a-dir-fifo"].Type.String() != "fifo" {
		t.Errorf("sidecar: %+v", all)
	}
}

func TestACancelledImportLeavesNothingRunningOrOpen(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	for i := range 300 {
		write(t, filepath.Join(dir, fmt.Sprint("d", i%20), fmt.Sprint(i)), strings.Repeat("x", i))
	}
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", 10*large))
	openFiles := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(fds)
	}
	before := openFiles()
	for _, at := range []int64{1, 10, 100, 250} {
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		_, err := importDir(ctx, m, dir, Options{}, hooks{reading: func(string) {
			if n.Add(1) == at {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at file %d: %v", at, err)
		}
		if after := openFiles(); after != before {
			t.Errorf("cancelled at file %d: %d files are open, were %d", at, after, before)
		}
	}
	imported(t, m, dir, Options{})
	if after := openFiles(); after != before {
		t.Errorf("%d files are open, were %d", after, before)
	}
}

func TestAnImportMayBeCancelledAsItEnds(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := importDir(ctx, newMemory(), dir, Options{}, hooks{reading: func(string) { go cancel() }})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}
