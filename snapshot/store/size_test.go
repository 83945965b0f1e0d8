package store_test

import (
	"errors"
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
