package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/durable"
)

// Files and directories of a store, beside packsDir.
const (
	formatFile  = "FORMAT"
	lockFile    = "lock"
	indexDir    = "index"
	ballastFile = "ballast"
)

// Version is the version of the directory's layout and of all that is in it.
const Version = 1

const formatLine = "volary store "

// Open opens the store in dir, and creates it first if dir is missing or empty. What an earlier process put
// and did not sync is found again by reading the ends of the packs.
func Open(dir string, o Options) (*Store, error) {
	s, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, o Options) (_ *Store, err error) {
	s := &Store{
		dir:      dir,
		log:      o.Logger,
		step:     o.Step,
		readOnly: o.ReadOnly,
		packSize: o.PackSize,
		packs:    make(map[uint32]*pack),
		short:    make(map[uint32]packState),
		pending:  make(map[string]*pend),
		sessions: make(map[*Session]struct{}),
		nextPack: 1,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.step == nil {
		s.step = func(string) {}
	}
	if s.packSize <= 0 || s.packSize > maxPackSize {
		s.packSize = DefaultPackSize
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	create, err := s.prepare()
	if err != nil {
		return nil, err
	}
	var disk vfs.FS = vfs.Default
	if !s.readOnly {
		s.ballast = openBallast(filepath.Join(dir, ballastFile))
		disk = vfs.OnDiskFull(vfs.Default, s.ballast.release)
	}
	if s.index, err = openIndex(filepath.Join(dir, indexDir), create, s.readOnly, disk, s.log); err != nil {
		return nil, indexError(filepath.Join(dir, indexDir), err)
	}
	if create {
		if err := writeFormat(dir); err != nil {
			return nil, err
		}
	}
	if err := s.recoverPacks(); err != nil {
		return nil, err
	}
	if !s.readOnly {
		s.flusher = newFlusher(s)
	}
	return s, nil
}

// prepare locks the directory, makes its parts if need be, and tells whether the index is to be created:
// FORMAT is written last, so without it nothing was ever put.
func (s *Store) prepare() (create bool, err error) {
	path := filepath.Join(s.dir, formatFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !s.readOnly {
		if err := makeDir(s.dir); err != nil {
			return false, err
		}
	}
	if err := s.takeLock(); err != nil {
		return false, err
	}
	// Only who has the lock sees a store that nobody is creating.
	format, err := os.ReadFile(path)
	if err == nil {
		return false, checkFormat(path, format)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if packs, err := os.ReadDir(filepath.Join(s.dir, packsDir)); err == nil && len(packs) > 0 {
		return false, fmt.Errorf("%w: %s is missing", ErrCorrupt, path)
	}
	if s.readOnly {
		return false, err
	}
	if err := os.RemoveAll(filepath.Join(s.dir, indexDir)); err != nil {
		return false, readOnlyError(err)
	}
	return true, makeDir(filepath.Join(s.dir, packsDir))
}

func makeDir(dir string) error { return readOnlyError(durable.MkdirAll(dir, 0o700)) }

func checkFormat(path string, format []byte) error {
	v, ok := strings.CutPrefix(strings.TrimSuffix(string(format), "\n"), formatLine)
	n, err := strconv.Atoi(v)
	if !ok || err != nil || n < 1 {
		return fmt.Errorf("%w: %s", ErrCorrupt, path)
	}
	if n > Version {
		return fmt.Errorf("%w: version %d, this program knows %d\nuse the newer program", ErrNewer, n, Version)
	}
	return nil
}

// writeFormat makes a new store count, after all else is on the disk.
func writeFormat(dir string) error {
	tmp := filepath.Join(dir, formatFile+".tmp")
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s%d\n", formatLine, Version); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, formatFile)); err != nil {
		return err
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// readOnlyError adds ErrReadOnly to what the system says of a place that cannot be written to.
func readOnlyError(err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// indexError sorts out what Pebble's failure to open means.
func indexError(path string, err error) error {
	err = readOnlyError(err)
	for _, plain := range []error{ErrReadOnly, syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
		if errors.Is(err, plain) {
			return fmt.Errorf("index: %w", err)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
}

// Close syncs and closes the store. Sessions still open lose their protection.
func (s *Store) Close() error {
	if !s.end() {
		return nil
	}
	var err error
	if s.flusher != nil {
		err = s.flusher.sync(context.Background())
		s.flusher.close()
	}
	if cerr := s.release(); err == nil {
		err = cerr
	}
	return err
}

// end makes the store closed, once those who write are done; false if it was closed already.
func (s *Store) end() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.closed
	s.closed = true
	return !was
}

// release closes the files, whatever part of them is open.
func (s *Store) release() error {
	var errs []error
	stopped := false
	if s.index != nil {
		errs = append(errs, s.index.close())
		stopped = s.index.halt.failed() != nil
	}
	s.mu.Lock()
	for _, p := range s.packs {
		errs = append(errs, p.file.Close())
	}
	s.packs = nil
	s.mu.Unlock()
	if stopped && s.lock != nil {
		// What is left of Pebble may still write: the files stay locked as long as this process lives.
		errs = append(errs, withFd(s.lock, func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			return err
		}))
	} else if s.lock != nil {
		errs = append(errs, unlock(s.lock))
	}
	return errors.Join(errs...)
}
