// Package statedb opens the databases of a host's state. Start with [Open]: a bbolt file that says of which version it
// is, and refuses to be opened by a program that is older.
package statedb

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

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

// Open opens a database with the buckets, which it makes if they are missing. A file that is damaged gives an error
// that wraps [snapshot.ErrDamaged].
func Open(path string, version int, buckets ...[]byte) (db *bolt.DB, err error) {
	// bbolt panics on a file that is damaged in its structure.
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%s is damaged (%v): %w", path, r, snapshot.ErrDamaged)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
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
