package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/store"
)

func TestNothingIsDurableInAStoreThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(data string) error {
		if err := s.Put(t.Context(), blocks.NewBlock([]byte(data))); err != nil {
			t.Fatal(err)
		}
		return s.Sync(t.Context())
	}
	if err := put("before"); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"", "lock", "packs", "index"} {
		if err := os.Rename(filepath.Join(dir, part), dir+".away"); err != nil {
			t.Fatal(err)
		}
		if err := put("while " + part + " is away"); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%q is away: %v", part, err)
		}
		if err := os.Rename(dir+".away", filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
		if err := put("when " + part + " is back"); err != nil {
			t.Errorf("%q is back: %v", part, err)
		}
	}
}
