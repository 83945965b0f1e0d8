//go:build real

package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

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

func TestRealADaemonWaitsForWhatTheDiskDoesForAKilledOne(t *testing.T) {
	h := &home{dir: t.TempDir(), config: defaultConfig(), remote: &remote{}}
	log := slog.New(slog.DiscardHandler)
	host, _, err := openServed(t.Context(), h, log)
	must(t, err)
	must(t, host.Close())

	disk := disktest.New(t, 64<<20)
	thaw := freeze(t, disk.Mount)
	killed := exec.Command("flock", "--no-fork", h.path("store/lock"), "mkdir", filepath.Join(disk.Mount, "dir"))
	must(t, killed.Start())
	t.Cleanup(func() {
		thaw()
		killed.Wait()
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		stack, err := os.ReadFile(fmt.Sprintf("/proc/%d/stack", killed.Process.Pid))
		must(t, err)
		if bytes.Contains(stack, []byte("mkdir")) && bytes.Contains(stack, []byte("percpu_rwsem_wait")) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not wait for the disk")
		}
	}
	must(t, killed.Process.Kill())
	time.AfterFunc(lockWait+time.Second, thaw)
	host, found, err := openServed(t.Context(), h, log)
	must(t, err)
	if len(found) > 0 {
		t.Errorf("taken from %v, which would have changed something", found)
	}
	must(t, host.Close())
}

// freeze has who writes to a file system wait (ioctl_fs(2)).
func freeze(t *testing.T, dir string) (thaw func()) {
	t.Helper()
	const freeze, thawed = 0xc0045877, 0xc0045878 // FIFREEZE, FITHAW
	d, err := os.Open(dir)
	must(t, err)
	must(t, unix.IoctlSetInt(int(d.Fd()), freeze, 0))
	return sync.OnceFunc(func() {
		unix.IoctlSetInt(int(d.Fd()), thawed, 0)
		d.Close()
	})
}
