package statedb_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/statedb"
)

var bucket = []byte("things")

func TestStateIsThereAfterItWasOpenedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	for round := range 2 {
		db, err := statedb.Open(path, 1, bucket)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			if got := tx.Bucket(bucket).Get([]byte("k")); (got != nil) != (round == 1) {
				t.Errorf("round %d: %q", round, got)
			}
			return tx.Bucket(bucket).Put([]byte("k"), []byte("v"))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStateOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := statedb.Open(path, 2, bucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := statedb.Open(path, 1, bucket); !errors.Is(err, statedb.ErrNewer) {
		t.Errorf("%v, want ErrNewer", err)
	}
}

func TestDamagedStateIsToldAndNotAPanic(t *testing.T) {
	page := os.Getpagesize()
	for name, damage := range map[string]func([]byte, int64) []byte{
		// The two pages of meta data stay, so that bbolt believes the rest.
		"overwritten": func(b []byte, _ int64) []byte {
			return append(b[:2*page], bytes.Repeat([]byte{0xff}, len(b)-2*page)...)
		},
		"cut to its meta data":       func(b []byte, _ int64) []byte { return b[:2*page] },
		"cut to its first page":      func(b []byte, _ int64) []byte { return b[:page] },
		"cut in its first page":      func(b []byte, _ int64) []byte { return b[:100] },
		"cut by its last page":       func(b []byte, used int64) []byte { return b[:used-int64(page)] },
		"without meta data":          func(b []byte, _ int64) []byte { return append(make([]byte, 2*page), b[2*page:]...) },
		"of another program's bytes": func([]byte, int64) []byte { return bytes.Repeat([]byte("text\n"), page) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			used := fill(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(data, used), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err = statedb.Open(path, 1, bucket)
				var damaged *statedb.DamagedError
				if !errors.Is(err, snapshot.ErrDamaged) || !errors.As(err, &damaged) || damaged.Path != path {
					t.Errorf("%v, want a DamagedError", err)
				}
			}
		})
	}
}

// fill makes a database of many pages, and returns how many bytes of the file it uses. Its list of free pages, which is
// read when it is opened, is not at the end: pages before it are free by then.
func fill(t *testing.T, path string) (used int64) {
	t.Helper()
	db, err := statedb.Open(path, 1, bucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1000, 1000, 1000, 1, 1} {
		err = errors.Join(err, db.Update(func(tx *bolt.Tx) error {
			for i := range n {
				if err := tx.Bucket(bucket).Put(fmt.Append(nil, i), make([]byte, 100)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	err = errors.Join(err, db.View(func(tx *bolt.Tx) error {
		used = tx.Size()
		return nil
	}))
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return used
}
