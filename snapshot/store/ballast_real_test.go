//go:build real

package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/disktest"
)

// What was given to the index is the index's, and not the next writer's to take back.
func TestTheReserveIsTakenBackOnlyWhereThereIsMore(t *testing.T) {
	d := disktest.New(t, 64<<20)
	b := openBallast(filepath.Join(d.Mount, "ballast"))
	filler, err := os.Create(filepath.Join(d.Mount, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	var fs unix.Statfs_t
	if err := unix.Statfs(d.Mount, &fs); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(filler.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-1<<20); err != nil {
		t.Fatal(err)
	}
	b.release()
	if err := b.restore(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("with little more than what was given: %v", err)
	}
	if err := filler.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := b.restore(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if fi, err := os.Stat(b.path); err != nil || fi.Size() != ballastSize {
		t.Errorf("the reserve: %v, %v", fi, err)
	}
}
