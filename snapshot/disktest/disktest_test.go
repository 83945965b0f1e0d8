//go:build real

package disktest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/disktest"
)

// write makes a file, and brings it to the disk if it is asked to.
func write(t *testing.T, path string, synced bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	if synced {
		if err := unix.Syncfs(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACutLosesWhatIsNotSyncedAndNothingElse(t *testing.T) {
	for log, left := range map[disktest.Log]string{disktest.NoLogFlush: "nothing", disktest.LogFlush: "name"} {
		d := disktest.New(t, 16<<20)
		synced, loose := filepath.Join(d.Mount, "synced"), filepath.Join(d.Mount, "loose")
		write(t, synced, true)
		write(t, loose, false)
		if err := disktest.Cut(d.Mount, log); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Mount, "later"), nil, 0o600); err == nil {
			t.Error("a file was made without power")
		}
		d.Remount(t)
		if got, err := os.ReadFile(synced); err != nil || string(got) != "content" {
			t.Errorf("%v: what was synced is %q, %v", log, got, err)
		}
		got, err := os.ReadFile(loose)
		switch {
		case left == "nothing" && !errors.Is(err, os.ErrNotExist):
			t.Errorf("what was not synced is %q, %v", got, err)
		case left == "name" && (err != nil || len(got) > 0):
			t.Errorf("what was not synced is %q, %v; want an empty file", got, err)
		}
	}
}

// Programs that make a mount namespace of their own, as containers do, copy every mount there is.
func TestACopyOfTheMountElsewhereDoesNotKeepTheDiskFromComingBack(t *testing.T) {
	d := disktest.New(t, 16<<20)
	elsewhere := exec.Command("unshare", "--mount", "cat")
	in, err := elsewhere.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := elsewhere.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Start(); err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Wait()
	defer in.Close()
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.Mount, "f")
	for range 3 {
		write(t, path, true)
		if err := disktest.Cut(d.Mount, disktest.NoLogFlush); err != nil {
			t.Fatal(err)
		}
		d.Remount(t)
		if got, err := os.ReadFile(path); err != nil || string(got) != "content" {
			t.Fatalf("after a cut: %q, %v", got, err)
		}
		d.Remount(t)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemountTakesOptionsForOnce(t *testing.T) {
	d := disktest.New(t, 16<<20)
	path := filepath.Join(d.Mount, "f")
	write(t, path, false)
	d.Remount(t, "ro")
	if err := os.Remove(path); !errors.Is(err, unix.EROFS) {
		t.Errorf("removed from a read-only disk: %v", err)
	}
	d.Remount(t)
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
}
