//go:build real

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/statedb"
)

var seizedBucket = []byte("things")

func TestRealNothingIsLostIfPowerGoesWhileStateIsSeized(t *testing.T) {
	const steps = 5 // of free
	for at := range steps + 1 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			disk := disktest.New(t, 64<<20)
			h := &home{dir: disk.Mount}
			files := []string{filepath.Join(disk.Mount, "volumes/volumes.db"), h.path(headsFile), h.path(outboxFile)}
			must(t, os.Mkdir(h.path(volumesDir), 0o700))
			var held []*bolt.DB // by who cannot let go of them
			for _, file := range files {
				held = append(held, setThing(t, file, "old"))
			}
			errPower, reached := errors.New("no power"), 0
			err := h.free(func(string) error {
				if reached++; reached == at {
					return errors.Join(errPower, disktest.Cut(disk.Mount, disktest.NoLogFlush))
				}
				return nil
			})
			want := "old"
			if at == 0 {
				must(t, err)
				want = "new"
				for _, file := range files {
					must(t, setThing(t, file, want).Close())
				}
				must(t, disktest.Cut(disk.Mount, disktest.NoLogFlush))
			} else if !errors.Is(err, errPower) {
				t.Fatalf("step %d was not reached: %v", at, err)
			}
			for _, db := range held {
				db.Close() // what there is no power for
			}
			disk.Remount(t)
			must(t, h.free(func(string) error { return nil }))
			for _, file := range files {
				db, err := statedb.Open(file, 1, seizedBucket)
				must(t, err)
				err = db.View(func(tx *bolt.Tx) error {
					if got := string(tx.Bucket(seizedBucket).Get([]byte("k"))); got != want {
						t.Errorf("%s has %q, not %q", file, got, want)
					}
					return nil
				})
				must(t, errors.Join(err, db.Close()))
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// setThing opens a database, which nobody may have locked, and writes to it durably.
func setThing(t *testing.T, file, value string) *bolt.DB {
	t.Helper()
	db, err := statedb.Open(file, 1, seizedBucket)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error { return tx.Bucket(seizedBucket).Put([]byte("k"), []byte(value)) }))
	return db
}
