package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ballastSize is enough for the index to write out what it had accepted when the disk became full.
const ballastSize = 8 << 20

// A ballast is a file of reserved space. Pebble cannot go on after a write that failed, and so the index must
// never meet a full disk: it gets the ballast's space instead, and blocks are refused until there is room for
// both again.
type ballast struct {
	path string
	full atomic.Bool // the ballast is used up

	mu sync.Mutex // one restore at a time
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
	if err := b.allocate(); err != nil {
		return err
	}
	b.full.Store(false)
	return nil
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
		return &os.PathError{Op: "reserve space", Path: b.path, Err: err}
	}
	return nil
}
