package statedb_test

import (
	"bytes"
	"errors"
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
	path := filepath.Join(t.TempDir(), "db")
	db, err := statedb.Open(path, 1, bucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The two pages of meta data stay, so that bbolt believes the rest.
	page := os.Getpagesize()
	copy(data[2*page:], bytes.Repeat([]byte{0xff}, len(data)-2*page))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := statedb.Open(path, 1, bucket); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("%v, want ErrDamaged", err)
	}
}
