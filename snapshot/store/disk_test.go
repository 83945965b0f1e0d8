package store_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

// A disk is an ext4 filesystem of its own in a file.
type disk struct{ image, mount string }

func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a filesystem of its own and must run as root")
	}
	dir := t.TempDir()
	d := &disk{filepath.Join(dir, "image"), filepath.Join(dir, "mount")}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-F", "-m", "0", d.image)
	command(t, "mount", "-o", "loop", d.image, d.mount)
	t.Cleanup(func() { command(t, "umount", d.mount) })
	return d
}

// remount is what a machine does after a power cut: it reads the disk anew and replays the journal.
func (d *disk) remount(t *testing.T, options ...string) {
	t.Helper()
	command(t, "umount", d.mount)
	command(t, "mount", append([]string{"-o", "loop"}, append(options, d.image, d.mount)...)...)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestAFullDiskRefusesBlocksAndKeepsTheStoreWhole(t *testing.T) {
	for _, size := range []int{900, 20 << 10, 1 << 20} {
		t.Run(fmt.Sprintf("blocks of %d bytes", size), func(t *testing.T) {
			d := newDisk(t, 64<<20)
			dir := filepath.Join(d.mount, "store")
			filler := filepath.Join(d.mount, "filler")
			if err := os.WriteFile(filler, make([]byte, 20<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, store.Options{PackSize: 8 << 20})
			put1 := blockstest.Random(1, 5, size)
			put(t, s, put1...)
			sync(t, s)
			n, err := fill(t, s, size)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("a full disk says %v", err)
			}
			wantAll(t, s, put1)
			sync(t, s)
			st, err := s.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantCount(t, s, int(st.Blocks))
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			again := blockstest.Random(uint64(100+n), 10, size)
			put(t, s, again...)
			sync(t, s)
			close1(t, s)
			s = open(t, dir, store.Options{})
			wantAll(t, s, put1)
			wantAll(t, s, again)
			wantCount(t, s, -1)
		})
	}
}

// fill puts and syncs until an error.
func fill(t *testing.T, s *store.Store, size int) (int, error) {
	t.Helper()
	for n := range 1 << 20 {
		if err := s.Put(t.Context(), blockstest.Random(uint64(100+n), 10, size)...); err != nil {
			return n, err
		}
		if n%50 == 0 {
			if err := s.Sync(t.Context()); err != nil {
				return n, err
			}
		}
	}
	return 0, errors.New("the disk never got full")
}

func TestAReadOnlyFilesystemIsNamed(t *testing.T) {
	d := newDisk(t, 64<<20)
	dir := filepath.Join(d.mount, "store")
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 10, 1000)
	put(t, s, bs...)
	close1(t, s)
	d.remount(t, "-o", "ro")
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("open for writing: %v", err)
	}
	if _, err := store.Open(filepath.Join(d.mount, "other"), store.Options{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("create: %v", err)
	}
	s = open(t, dir, store.Options{ReadOnly: true})
	wantAll(t, s, bs)
	close1(t, s)
}
