package zombie

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnlyCallsThatChangeNothingAreHarmless(t *testing.T) {
	open := func(flags int) string {
		return fmt.Sprintf("%d 0x3 0xc000 %#x 0x0 0x0 0x0 0x7ffe 0x4a\n", unix.SYS_OPENAT, flags)
	}
	for _, c := range []struct {
		line     string
		harmless bool
	}{
		{open(unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC), true},
		{open(unix.O_RDWR | unix.O_PATH), true},
		{open(unix.O_RDWR | unix.O_CREAT), false},
		{open(unix.O_WRONLY | unix.O_TRUNC), false},
		{open(unix.O_RDWR | unix.O_TMPFILE), false},
		{fmt.Sprintf("%d", unix.SYS_OPENAT), false},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_NEWFSTATAT), true},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_PPOLL), true},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_CLOSE), true},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_LSEEK), true},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_FSYNC), true},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_PWRITE64), false},
		{fmt.Sprintf("%d 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", unix.SYS_RENAMEAT2), false},
		{"running\n", false},
		{"-1 0x7ffe 0x4a\n", false},
		{"", false},
	} {
		call, err := parseCall(c.line)
		if err != nil || call.harmless() != c.harmless {
			t.Errorf("%q: harmless %v, %v", c.line, call.harmless(), err)
		}
	}
	if c, err := parseCall("nonsense 0x1"); err == nil {
		t.Errorf("read as %v", c)
	}
}

func TestWhoIsAliveMayDoSomething(t *testing.T) {
	p, err := Find(os.Getpid())
	must(t, err)
	if err := p.Harmless(); !errors.Is(err, ErrAlive) || p.Gone() || p.Killed() {
		t.Errorf("harmless: %v, gone: %v, killed: %v", err, p.Gone(), p.Killed())
	}
	p.start = "another"
	if !p.Gone() {
		t.Error("a process is taken for one that had its number before")
	}
	if _, err := Find(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no process: %v", err)
	}
}

func TestWhoHasAFileOpenDoesNotLockIt(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	must(t, err)
	defer f.Close()
	if found, err := Locking(f.Name()); err != nil || len(found) > 0 {
		t.Fatalf("locked by %v, %v", found, err)
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_SH))
	if found, err := Locking(f.Name()); err != nil || len(found) != 1 || found[0].PID != os.Getpid() {
		t.Fatalf("locked by %v, %v", found, err)
	}
}
