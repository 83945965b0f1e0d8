package store_test

import (
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func open(t *testing.T, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStoreKeepsTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks { return open(t, t.TempDir(), store.Options{}) })
}

func TestStoreOfSmallPacksKeepsTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks { return open(t, t.TempDir(), store.Options{PackSize: 10 << 10}) })
}

func TestSessionKeepsTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
		x, err := open(t, t.TempDir(), store.Options{}).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	})
}
