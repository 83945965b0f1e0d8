package api

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketHasItsModeAndGroupAndNothingElseIsLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := Listen(path, os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|SocketMode || info.Sys().(*syscall.Stat_t).Gid != uint32(os.Getgid()) {
		t.Errorf("the socket is %v of group %d", info.Mode(), info.Sys().(*syscall.Stat_t).Gid)
	}
	if l.Addr().String() != path {
		t.Errorf("the address is %s", l.Addr())
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if names := namesIn(t, dir); len(names) != 1 {
		t.Errorf("while it listens: %v", names)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if names := namesIn(t, dir); len(names) != 0 {
		t.Errorf("after close: %v", names)
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSocketOfALiveDaemonIsRefusedAndOneOfADeadReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, -1); !errors.Is(err, ErrLive) {
		t.Errorf("beside a live daemon: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the live daemon's socket is gone: %v", err)
	} else {
		c.Close()
	}
	first.(*socket).UnixListener.Close() // leaves the file, as kill -9 does
	second, err := Listen(path, -1)
	if err != nil {
		t.Fatalf("after a dead daemon: %v", err)
	}
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first daemon's end removed the second's socket: %v", err)
	}
	second.Close()
}

func TestWhatIsNoSocketIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, -1); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want that there is something", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestSocketPathMayBeAsLongAsTheSystemTakesAndNoLonger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("x", maxSocketPath-len(dir)-1))
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := Listen(path+"x", -1); !errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(err.Error(), "107") {
		t.Errorf("one byte more: %v", err)
	}
}

// TestAnEngineThatLooksMeanwhileSeesNoOtherPlugin wants no socket in the directory that an engine would take for a plugin
// of another name: it takes all that are there, without what stands behind the last dot.
func TestAnEngineThatLooksMeanwhileSeesNoOtherPlugin(t *testing.T) {
	dir := t.TempDir()
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(filepath.Join(dir, "plugin.sock"), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	events := make([]byte, 1<<16)
	n, err := unix.Read(watch, events)
	if err != nil {
		t.Fatal(err)
	}
	placed := false
	for events = events[:n]; len(events) > 0; {
		mask, size := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
		name := unix.ByteSliceToString(events[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+size])
		events = events[unix.SizeofInotifyEvent+size:]
		if mask&unix.IN_ISDIR == 0 && strings.TrimSuffix(name, filepath.Ext(name)) != "plugin" {
			t.Errorf("%s was there", name)
		}
		placed = placed || name == "plugin.sock"
	}
	if !placed {
		t.Error("the socket was never seen")
	}
}
