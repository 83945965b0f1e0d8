//go:build real

package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/snapshot/store"
)

func TestAFullDiskRefusesBlocksAndKeepsTheStoreWhole(t *testing.T) {
	for _, size := range []int{900, 20 << 10, 1 << 20} {
		t.Run(fmt.Sprintf("blocks of %d bytes", size), func(t *testing.T) {
			d := disktest.New(t, 64<<20)
			dir := filepath.Join(d.Mount, "store")
			filler := filepath.Join(d.Mount, "filler")
			if err := os.WriteFile(filler, make([]byte, 20<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, store.Options{PackSize: 8 << 20})
			first := blockstest.Random(1, 5, size)
			put(t, s, first...)
			sync(t, s)
			n, err := fill(t, s, size)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("a full disk says %v", err)
			}
			wantAll(t, s, first)
			sync(t, s)
			st, err := s.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantCount(t, s, int(st.Blocks))
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			again := blockstest.Random(uint64(100+n), 10, size)
			put(t, s, again...)
			sync(t, s)
			mustClose(t, s)
			s = open(t, dir, store.Options{})
			wantAll(t, s, first)
			wantAll(t, s, again)
			wantCount(t, s, -1)
		})
	}
}

// fill puts and syncs until an error.
func fill(t *testing.T, s *store.Store, size int) (int, error) {
	t.Helper()
	for n := range 1 << 20 {
		if err := s.Put(t.Context(), blockstest.Random(uint64(100+n), 10, size)...); err != nil {
			return n, err
		}
		if n%50 == 0 {
			if err := s.Sync(t.Context()); err != nil {
				return n, err
			}
		}
	}
	return 0, errors.New("the disk never got full")
}

func TestAReadOnlyFilesystemIsNamed(t *testing.T) {
	d := disktest.New(t, 64<<20)
	dir := filepath.Join(d.Mount, "store")
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 10, 1000)
	put(t, s, bs...)
	mustClose(t, s)
	d.Remount(t, "ro")
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("open for writing: %v", err)
	}
	if _, err := store.Open(filepath.Join(d.Mount, "other"), store.Options{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("create: %v", err)
	}
	s = open(t, dir, store.Options{ReadOnly: true})
	wantAll(t, s, bs)
	mustClose(t, s)
}

// Pebble cannot go on after a failed write: what it needs when the disk is full comes out of the ballast.
func TestAFullDiskRefusesRecordsAndKeepsTheIndexWhole(t *testing.T) {
	d := disktest.New(t, 64<<20)
	dir := filepath.Join(d.Mount, "store")
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 20, 1000)
	put(t, s, bs...)
	sync(t, s)
	filler := filepath.Join(d.Mount, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	mustClose(t, f)
	var set []string
	for n := 0; ; n++ {
		key := fmt.Sprintf("rec/%d", n)
		err := s.SetRecords(t.Context(), map[string][]byte{key: blockstest.Random(uint64(n), 1, 100<<10)[0].RawData()})
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatalf("record %d: %v", n, err)
		}
		set = append(set, key)
	}
	check := func() {
		t.Helper()
		for _, key := range set {
			if v, err := s.Record(t.Context(), key); err != nil || len(v) != 100<<10 {
				t.Fatalf("record %s: %d bytes, %v", key, len(v), err)
			}
		}
		wantAll(t, s, bs)
	}
	check()
	if err := s.SetRecords(t.Context(), map[string][]byte{set[0]: nil}); err != nil {
		t.Fatalf("delete on a full disk: %v", err)
	}
	set = set[1:]
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	more := blockstest.Random(2, 20, 1000)
	put(t, s, more...)
	sync(t, s)
	check()
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	check()
	wantAll(t, s, more)
}
