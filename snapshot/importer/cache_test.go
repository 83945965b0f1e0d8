package importer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
)

// again imports a directory with the cache and without, which must give the same, and returns the number of
// files the first of these opened.
func again(t *testing.T, m *memory, dir string) (int, *snapshot.Commit) {
	t.Helper()
	var opened opens
	with, err := importDir(t.Context(), m, dir, Options{Cache: m}, hooks{opening: opened.add, slack: testSlack})
	must(t, err)
	without := imported(t, newMemory(), dir, Options{Workers: 1})
	if with.Commit.Tree != without.Commit.Tree || with.Commit.Meta != without.Commit.Meta || with.Commit.Stats != without.Commit.Stats {
		t.Errorf("with the cache %+v, without %+v", with.Commit, without.Commit)
	}
	return opened.count(), with.Commit
}

func TestAnUnchangedDirectoryIsNotReadAgain(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	for i := range 5000 { // two segments
		write(t, filepath.Join(dir, "many", fmt.Sprint(i)), fmt.Sprint("content ", i))
	}
	for i := range 10 {
		write(t, filepath.Join(dir, "a", fmt.Sprint(i), "f"), fmt.Sprint(i))
	}
	must(t, os.Symlink("target", filepath.Join(dir, "a/link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "a/fifo"), 0o600))
	must(t, os.Link(filepath.Join(dir, "a/0/f"), filepath.Join(dir, "a/1/linked")))
	must(t, unix.Setxattr(filepath.Join(dir, "a/2/f"), "user.x", []byte("y"), 0))
	age()
	if n, _ := again(t, m, dir); n != 5010 {
		t.Errorf("the first run opened %d files, want 5010", n)
	}
	if n, _ := again(t, m, dir); n != 0 {
		t.Errorf("an unchanged directory: %d files were opened", n)
	}
	write(t, filepath.Join(dir, "many/new"), "new")
	must(t, os.Remove(filepath.Join(dir, "many/7")))
	if n, _ := again(t, m, dir); n != 1 {
		t.Errorf("one new file: %d were opened", n)
	}
}

func TestWhatWasChangedTooLatelyIsNotRemembered(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	path := filepath.Join(dir, "f")
	write(t, path, "content")
	_, err := importDir(t.Context(), m, dir, Options{Cache: m}, hooks{slack: testSlack, opening: func(string) { write(t, path, "content") }})
	must(t, err)
	age()
	if n, _ := again(t, m, dir); n != 1 {
		t.Errorf("a file changed right before the first reading: %d were opened in the second run, want 1", n)
	}
	if n, _ := again(t, m, dir); n != 0 {
		t.Errorf("%d files were opened in the third run, want none", n)
	}
}

func TestAChangeIsSeenThroughTheCache(t *testing.T) {
	var stamp unix.Stat_t
	for name, change := range map[string]func(path string) error{
		"content of another size": func(p string) error { return os.WriteFile(p, []byte("longer than before"), 0o644) },
		"content of the same size and mtime": func(p string) error {
			if err := os.WriteFile(p, []byte("OTHER"), 0o644); err != nil {
				return err
			}
			return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{stamp.Atim, stamp.Mtim}, 0)
		},
		"renamed over, same size and mtime": func(p string) error {
			if err := os.WriteFile(p+".new", []byte("OTHER"), 0o644); err != nil {
				return err
			}
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, p+".new", []unix.Timespec{stamp.Atim, stamp.Mtim}, 0); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		},
		"mode":  func(p string) error { return os.Chmod(p, 0o600) },
		"xattr": func(p string) error { return unix.Setxattr(p, "user.x", []byte("y"), 0) },
		"mtime": func(p string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{}, {Sec: 1}}, 0) },
		"another kind": func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.Mkdir(p, 0o755)
		},
		"another name": func(p string) error { return os.Link(p, p+".link") },
		"gone":         os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := diskDir(t), newMemory()
			path := filepath.Join(dir, "d/f")
			write(t, path, "first")
			write(t, filepath.Join(dir, "d/other"), "other")
			age()
			_, before := again(t, m, dir)
			must(t, unix.Lstat(path, &stamp))
			must(t, change(path))
			n, after := again(t, m, dir)
			if n > 1 {
				t.Errorf("%d files were opened, want the changed one alone", n)
			}
			if before.Meta == after.Meta && before.Tree == after.Tree {
				t.Error("the change was not seen")
			}
		})
	}
}

func TestAStoreThroughAMappingIsSeenThroughTheCache(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	path := filepath.Join(dir, "f")
	write(t, path, "first")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(mapped)
	mapped[0] = 'F' // the page is dirty now: without a sync, a further store would leave no trace
	age()
	again(t, m, dir)
	age()
	mapped[0] = 'X'
	_, c := again(t, m, dir)
	if got := files(t, m, c.Tree)["f"]; got != "Xirst" {
		t.Errorf("the snapshot holds %q", got)
	}
}

func TestAHitWhoseRootIsNotKeptIsReadAgain(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	write(t, filepath.Join(dir, "d/f"), "content")
	write(t, filepath.Join(dir, "d/g"), "other content")
	age()
	_, c := again(t, m, dir)
	for k := range m.blocks {
		m.lost[k] = true
	}
	if n, _ := again(t, m, dir); n != 2 {
		t.Errorf("nothing was kept, but %d files were opened", n)
	}
	clear(m.lost)
	// The tree is lost, the content is not.
	m.lost[c.Tree] = true
	if n, _ := again(t, m, dir); n != 0 {
		t.Errorf("the content was kept, but %d files were opened", n)
	}
}

func TestWhatIsLeftOutIsNamedByEveryRun(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	write(t, filepath.Join(dir, "d/f"), "content")
	must(t, unix.Setxattr(filepath.Join(dir, "d/f"), "user.left", []byte("y"), 0))
	age()
	for run := range 3 {
		var opened opens
		r, err := importDir(t.Context(), m, dir, Options{Cache: m}, hooks{
			opening: opened.add, slack: testSlack, captured: func(name string) bool { return name != "user.left" },
		})
		must(t, err)
		if !slices.Equal(r.Uncaptured, []string{"user.left"}) {
			t.Errorf("run %d names %q", run, r.Uncaptured)
		}
		if n := opened.count(); run > 0 && n > 0 {
			t.Errorf("run %d opened %d files", run, n)
		}
	}
}

func TestAWriteMayTakeItsTimeBeforeAFileIsRemembered(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	write(t, filepath.Join(dir, "f"), "content")
	age()
	for range 2 {
		var p Progress
		_, err := importDir(t.Context(), m, dir, Options{Cache: m, Progress: &p}, hooks{slack: time.Hour})
		must(t, err)
		if p.Cached.Load() != 0 {
			t.Error("a file that may still be written to was remembered")
		}
	}
}

func TestStampsOfAnOverlayAreNotTrusted(t *testing.T) {
	if stampsContent(unix.OVERLAYFS_SUPER_MAGIC) {
		t.Error("they are, whatever its upper layer is on")
	}
}

func TestOneChunkersCacheIsNotAnothers(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	write(t, filepath.Join(dir, "f"), "content")
	age()
	var p Progress
	imported(t, m, dir, Options{Cache: m})
	imported(t, m, dir, Options{Cache: m, Chunker: "size-4096", Progress: &p})
	if n := p.Cached.Load(); n != 0 {
		t.Errorf("%d files of another chunker were not read", n)
	}
	imported(t, m, dir, Options{Cache: m, Progress: &p})
	if n := p.Cached.Load(); n != 1 {
		t.Errorf("%d files were cached, want 1", n)
	}
}

func TestADamagedRecordIsNoRecord(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	for i := range 20 {
		write(t, filepath.Join(dir, fmt.Sprint("f", i)), "content")
	}
	age()
	again(t, m, dir)
	for key, rec := range m.stats {
		for n := 0; n < len(rec.Value); n += 1 + len(rec.Value)/40 {
			cut := rec
			cut.Value = rec.Value[:n]
			m.stats[key] = cut
			if _, err := Import(t.Context(), m, dir, Options{Cache: m}); err != nil {
				t.Fatal(err)
			}
		}
	}
	again(t, m, dir)
}

func FuzzRecordsThatParseReencode(f *testing.F) {
	e := entry{name: "n", sec: -1, flags: sparse, size: 3}
	r := record{made: made{}, whole: true, entries: e.append(nil)}
	f.Add(r.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r := decodeRecord(b)
		if r == nil {
			return
		}
		again := decodeRecord(r.encode())
		if again == nil || string(again.encode()) != string(r.encode()) {
			t.Errorf("%x does not read back", b)
		}
	})
}

func TestAForgetfulCacheHasEveryFileReadAndRemembersIt(t *testing.T) {
	dir, m := diskDir(t), newMemory()
	write(t, filepath.Join(dir, "f"), "old")
	age()
	imported(t, m, dir, Options{Cache: m})
	cached := func(c StatCache) uint64 {
		p := new(Progress)
		imported(t, m, dir, Options{Cache: c, Progress: p})
		return p.Cached.Load()
	}
	if n := cached(m); n != 1 {
		t.Fatalf("%d files were known", n)
	}
	if n := cached(Forgetful{m}); n != 0 {
		t.Errorf("%d files were known to a cache that forgets", n)
	}
	if n := cached(m); n != 1 {
		t.Errorf("%d files were known afterwards", n)
	}
}
