package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/durable"
)

// DefaultReserve is how many bytes of the disk are kept for finishing what was begun when it is full.
const DefaultReserve = 64 << 20

// reserveDue is how often it is looked whether there is room again for a reserve that was given up.
const reserveDue = 5 * time.Second

const reserveFile = "reserve"

// A reserve is a file that takes space on the disk of the state, to be given up when that is full.
type reserve struct {
	path string
	size uint64
	log  *slog.Logger

	mu    sync.Mutex
	given int // how often it was given up
}

// gaveUp counts how often the reserve was given up.
func (r *reserve) gaveUp() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given
}

// giveUp makes room, and reports whether there is more of it than when gaveUp was before.
func (r *reserve) giveUp(before int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.Remove(r.path); err == nil {
		r.given++
		// Only then the file system gives the space to others.
		err = durable.SyncDir(filepath.Dir(r.path))
		r.log.Warn("the disk is full, and the reserve used up until there is room again", logFile, r.path, logError, err)
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.log.Error("the reserve cannot be used", logFile, r.path, logError, err)
	}
	return r.given > before
}

// restore takes the space, if there is room for twice as much.
func (r *reserve) restore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch fi, err := os.Stat(r.path); {
	case err == nil && uint64(fi.Size()) == r.size || errors.Is(err, fs.ErrNotExist) && r.size == 0:
		return nil
	case err == nil:
		if err := os.Remove(r.path); err != nil || r.size == 0 {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(r.path), &st); err != nil {
		return err
	}
	if free := st.Bavail * uint64(st.Bsize); free < 2*r.size {
		return fmt.Errorf("reserve %d bytes where %d are free: %w", r.size, free, syscall.ENOSPC)
	}
	if err := r.allocate(); err != nil {
		return errors.Join(fmt.Errorf("reserve space: %w", err), os.Remove(r.path))
	}
	if r.given > 0 {
		r.log.Info("the reserve is there again", logFile, r.path)
	}
	return nil
}

func (r *reserve) allocate() error {
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for {
		if err = unix.Fallocate(int(f.Fd()), 0, 0, int64(r.size)); err != unix.EINTR {
			return errors.Join(err, f.Close())
		}
	}
}

// keepReserve makes the reserve again once there is room, until ctx is done.
func (m *Manager) keepReserve(ctx context.Context) {
	tick := time.NewTicker(reserveDue)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := m.reserve.restore(); err != nil && !errors.Is(err, syscall.ENOSPC) {
				m.log.Error("the reserve", logError, err)
			}
		}
	}
}

// withReserve does something that is to be finished, again with the reserve if the disk is full.
func (m *Manager) withReserve(f func() error) error {
	before := m.reserve.gaveUp()
	err := f()
	if errors.Is(err, syscall.ENOSPC) && m.reserve.giveUp(before) {
		err = f()
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w\nwhat is not committed stays in the volume; make room, perhaps with `volary gc`, and run the command again", err)
	}
	return err
}

// finishes reports whether an operation may use the reserve: not if it begins something.
func finishes(op Operation) bool {
	switch op.(type) {
	case *Create, *Clone, *Mount, *Preview, *Undelete:
		return false
	}
	return true
}
