package tree_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

func TestNumbersLeadToTheEntriesOfTheWalkAndBack(t *testing.T) {
	b := tt.NewMemory()
	large := map[string]tt.Node{}
	for i := range 9000 {
		large[fmt.Sprintf("a-rather-long-name-for-a-file-%05d", i)] = tt.File("x")
	}
	s, err := tree.Open(ctx, b, tt.Commit(t, b, tt.Dir(map[string]tt.Node{
		"a": tt.File("1"), "dir": tt.Dir(map[string]tt.Node{"empty": tt.Dir(nil), "fifo": tt.Special(meta.FIFO, 0, 0)}),
		"large": tt.Dir(large), "z": tt.Symlink("a"),
	})))
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for want, err := range s.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n > 20 && n%499 != 0 && want.Path != "z" {
			n++
			continue
		}
		got, err := s.At(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(cid.Cid.Equals)); diff != "" {
			t.Fatalf("entry %d (-walked +numbered):\n%s", n, diff)
		}
		if number, ok, err := s.Number(ctx, want.Path); number != n || !ok || err != nil {
			t.Fatalf("%q has number %d (%v, %v), want %d", want.Path, number, ok, err, n)
		}
		n++
	}
	if n != s.Count() {
		t.Errorf("%d entries, but Count is %d", n, s.Count())
	}
	if _, err := s.At(ctx, n); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("entry %d: %v", n, err)
	}
	if _, ok, err := s.Number(ctx, "dir/none"); ok || err != nil {
		t.Errorf("a path that is not there: %v, %v", ok, err)
	}
}
