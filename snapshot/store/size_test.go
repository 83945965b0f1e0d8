package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func TestSizeIsThatOfTheBytes(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	digest, err := mh.Sum([]byte("itself"), mh.IDENTITY, -1)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		for _, size := range []int{0, 1, 5000, snapshot.MaxBlockSize} {
			b := blockstest.Random(uint64(size), 1, size)[0]
			if err := s.Put(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if n, err := s.Size(t.Context(), b.Cid()); err != nil || n != size {
				t.Errorf("round %d: %d, %v, want %d", round, n, err, size)
			}
		}
		if n, err := s.Size(t.Context(), cid.NewCidV1(cid.Raw, digest)); err != nil || n != 6 {
			t.Errorf("identity: %d, %v", n, err)
		}
		if _, err := s.Size(t.Context(), blockstest.Raw([]byte("nobody's")).Cid()); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("absent: %v", err)
		}
		if err := s.Sync(t.Context()); err != nil { // the second round asks the index
			t.Fatal(err)
		}
	}
}

func TestOnlyWhoAsksForItGetsBytesThatWereNotChecked(t *testing.T) {
	dir := t.TempDir()
	b := blockstest.Random(1, 1, 5000)[0]
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Put(t.Context(), b), s.Close()); err != nil {
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(dir, "packs", "*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatalf("%v, %v", packs, err)
	}
	data, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1]++
	if err := os.WriteFile(packs[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Get(t.Context(), b.Cid()); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("checked: %v", err)
	}
	got, err := s.GetUnchecked(t.Context(), b.Cid(), nil)
	if err != nil || len(got) != 5000 || bytes.Equal(got, b.RawData()) {
		t.Errorf("unchecked: %d bytes, %v", len(got), err)
	}
}
