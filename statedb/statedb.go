// Package statedb opens the databases of a host's state. Start with [Open]: a bbolt file that says of which version it
// is, and refuses to be opened by a program that is older.
package statedb

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/durable"
)

// ErrNewer says that a newer version of the program wrote the state.
var ErrNewer = errors.New("state was written by a newer version")

// lockTimeout is how long another process may still have the database.
const lockTimeout = 3 * time.Second

var (
	bucketState = []byte("state")
	keyVersion  = []byte("version")
)

// DamagedError says which file is damaged. It wraps [snapshot.ErrDamaged].
type DamagedError struct {
	Path string
	Err  error // what is wrong with it
}

func (e *DamagedError) Error() string { return e.Path + " is damaged: " + e.Err.Error() }

func (e *DamagedError) Unwrap() []error { return []error{snapshot.ErrDamaged, e.Err} }

// Open opens a database with the buckets, which it makes if they are missing. A file that is damaged gives a
// [DamagedError].
func Open(path string, version int, buckets ...[]byte) (db *bolt.DB, err error) {
	var file *os.File
	// bbolt panics on a file that is damaged in its structure, and reads a file that was cut behind its end, which the
	// kernel answers with a signal.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			// The mapping that stays would keep the lock.
			unlock := unix.Flock(int(file.Fd()), unix.LOCK_UN)
			db, err = nil, errors.Join(&DamagedError{path, fmt.Errorf("%v", r)}, unlock, file.Close())
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout: lockTimeout, FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	if malformed(path, err) {
		return nil, &DamagedError{path, err}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := whole(db, file); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	err = prepare(db, version, buckets)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// malformed reports whether bbolt refused a file for what is in it.
func malformed(path string, err error) bool {
	for _, known := range []error{berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum} {
		if errors.Is(err, known) {
			return true
		}
	}
	info, found := os.Stat(path)
	// For one that is too short for its two pages of meta data, bbolt has no error of its own.
	return err != nil && found == nil && info.Size() > 0 && info.Size() < int64(2*os.Getpagesize())
}

// whole refuses a file that is shorter than its own meta data says: what is behind its end is read only later, and
// nobody would catch the signal then.
func whole(db *bolt.DB, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return &DamagedError{db.Path(), fmt.Errorf("it has %d of %d bytes", info.Size(), tx.Size())}
		}
		return nil
	})
}

func prepare(db *bolt.DB, version int, buckets [][]byte) error {
	var found int
	err := db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketState)
		if b == nil {
			return nil
		}
		return json.Unmarshal(b.Get(keyVersion), &found)
	})
	switch {
	case err != nil || found == version:
		return err
	case found > version:
		return fmt.Errorf("version %d, this program knows %d: %w", found, version, ErrNewer)
	}
	return db.Update(func(tx *bolt.Tx) error {
		for _, name := range append([][]byte{bucketState}, buckets...) {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketState).Put(keyVersion, fmt.Append(nil, version))
	})
}
