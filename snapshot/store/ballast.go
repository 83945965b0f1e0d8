package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// ballastSize is enough for the index to write out what it had accepted when the disk became full.
	ballastSize = 8 << 20
	// ballastMargin is how much more than that must be free for the space to be taken back: what was just given to the
	// index is for the index.
	ballastMargin = 4 << 20
)

// A ballast is a file of reserved space. Pebble cannot go on after a write that failed, and so the index must
// never meet a full disk: it gets the ballast's space instead, and blocks are refused until there is room for
// both again.
type ballast struct {
	path string
	full atomic.Bool // the ballast is used up

	mu sync.Mutex // held while the file is made or removed
}

func openBallast(path string) *ballast {
	b := &ballast{path: path}
	if fi, err := os.Stat(path); err == nil && fi.Size() == ballastSize {
		return b
	}
	if err := b.allocate(); err != nil {
		b.full.Store(errors.Is(err, syscall.ENOSPC))
	}
	return b
}

// release gives the space to the index.
func (b *ballast) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full.Store(true)
	os.Remove(b.path)
}

// restore takes the space back after release. It fails with ENOSPC as long as the disk is full.
func (b *ballast) restore() error {
	if !b.full.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.full.Load() {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(b.path), &fs); err == nil && int64(fs.Bavail)*fs.Bsize < ballastSize+ballastMargin {
		return b.refused(syscall.ENOSPC)
	}
	if err := b.allocate(); err != nil {
		return err
	}
	b.full.Store(false)
	return nil
}

func (b *ballast) refused(err error) error {
	return &os.PathError{Op: "reserve space", Path: b.path, Err: err}
}

func (b *ballast) allocate() error {
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	defer f.Close()
	err = withFd(f, func(fd int) error { return unix.Fallocate(fd, 0, 0, ballastSize) })
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		os.Remove(b.path)
		return b.refused(err)
	}
	return nil
}
