package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/durable"
)

// indexLock is Pebble's own lock, in indexDir.
const indexLock = "LOCK"

// takeLock locks the directory: for all others when the store is opened for writing, for writers when it is
// opened for reading.
func (s *Store) takeLock() error {
	path := filepath.Join(s.dir, lockFile)
	flags, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if s.readOnly {
		flags, how = os.O_RDONLY, unix.LOCK_SH
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return readOnlyError(err)
	}
	if err := lockNow(f, how); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return lockedError(path)
		}
		return err
	}
	if err := s.checkLock(f); err != nil {
		return errors.Join(err, unlock(f))
	}
	s.lock = f
	if s.readOnly {
		return nil
	}
	// The number only serves the message of whoever finds the lock taken: a full disk may well keep it out.
	f.Truncate(0)
	f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return nil
}

// checkLock makes sure that a file which was locked is still the one that counts: not while or after Seize made another.
func (s *Store) checkLock(f *os.File) error {
	gate, err := lockGate(s.dir, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock(gate)
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(f.Name())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !os.SameFile(ours, now) {
		return lockedError(f.Name())
	}
	return nil
}

// lockGate locks the directory itself, which is done while the lock's file is taken, or replaced.
func lockGate(dir string, how int) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := lockNow(d, how); err != nil {
		d.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, lockedError(filepath.Join(dir, lockFile))
		}
		return nil, err
	}
	return d, nil
}

// Seize takes the lock of a store away from processes that cannot let go of it, so that Open can have it. What
// allowed returns no error for is done: it is to make sure that those who lock the file it is given will never touch the
// store again, and to free what else is to be used together with the store. Nobody opens the store meanwhile. The error
// wraps ErrLocked if the lock is just being taken by somebody.
//
// A crash in between leaves the store locked as it was, or not at all: nothing in it is changed.
func Seize(dir string, allowed func(lock string) error) error {
	gate, err := lockGate(dir, unix.LOCK_EX)
	if err != nil {
		return fmt.Errorf("seize store %s: %w", dir, err)
	}
	defer unlock(gate)
	lock := filepath.Join(dir, lockFile)
	if err := allowed(lock); err != nil {
		return fmt.Errorf("seize store %s: %w", dir, err)
	}
	for _, path := range []string{filepath.Join(dir, indexDir, indexLock), lock} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("seize store %s: %w", dir, readOnlyError(err))
		}
	}
	return durable.SyncDir(dir)
}

// LockedBy returns the number of the process that had the lock of a store for writing last, as far as it is known.
func LockedBy(dir string) (pid int, known bool) {
	b, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return pid, err == nil
}

func lockedError(path string) error {
	const hint = "\nstart `volary daemon` to share it"
	if pid, known := LockedBy(filepath.Dir(path)); known {
		return fmt.Errorf("%w by process %d%s", ErrLocked, pid, hint)
	}
	return fmt.Errorf("%w by another process%s", ErrLocked, hint)
}

func lockNow(f *os.File, how int) error {
	if err := withFd(f, func(fd int) error { return unix.Flock(fd, how|unix.LOCK_NB) }); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// unlock lets go of a file. A process forked this instant shares it until its exec: closing alone would leave it locked.
func unlock(f *os.File) error {
	return errors.Join(withFd(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) }), f.Close())
}
