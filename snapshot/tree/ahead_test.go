package tree_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

// nested has so many directories that they are not all fetched at once, and files of several blocks.
func nested() tt.Node {
	dirs := map[string]tt.Node{}
	for i := range 300 {
		large := tt.File(fmt.Sprint("a file of several blocks, number ", i))
		large.ChunkSize = 10
		sub := tt.Dir(map[string]tt.Node{"small": tt.File(fmt.Sprint(i))})
		dirs[fmt.Sprint(i)] = tt.Dir(map[string]tt.Node{"file": tt.File(fmt.Sprint("file", i)), "large": large, "sub": sub, "link": tt.Symlink("x")})
	}
	return tt.Dir(dirs)
}

func TestAWalkIsTheSameWhenNodesAreGotTogether(t *testing.T) {
	mem := tt.NewMemory()
	c := tt.Commit(t, mem, nested())
	together := &tt.Together{Memory: mem}
	want := describe(t, open(t, mem, c), "")
	if d := cmp.Diff(want, describe(t, open(t, together, c), "")); d != "" {
		t.Error(d)
	}
	if n := together.Requests.Load(); n > 700 {
		t.Errorf("%d requests for 600 directories and their files", n)
	}
}

func TestEntriesBeforeOneThatIsMissingAreThereWhenNodesAreGotTogether(t *testing.T) {
	mem := tt.NewMemory()
	c := tt.Commit(t, mem, nested())
	s := open(t, &tt.Together{Memory: mem}, c)
	lost, err := open(t, mem, c).Lookup(ctx, "250")
	if err != nil {
		t.Fatal(err)
	}
	mem.Lose(lost.CID)
	var last string
	for e, err := range s.Entries(ctx, s.Root()) {
		if err != nil {
			if !errors.Is(err, snapshot.ErrNotFound) || last != "25" {
				t.Errorf("after %q: %v", last, err)
			}
			return
		}
		last = e.Name
	}
	t.Error("the missing entry was not noticed")
}

func TestALoopOverEntriesMayEndAnywhereWhenNodesAreGotTogether(t *testing.T) {
	mem := tt.NewMemory()
	s := open(t, &tt.Together{Memory: mem}, tt.Commit(t, mem, nested()))
	for stop := 1; stop <= 300; stop += 13 {
		n := 0
		for _, err := range s.Entries(ctx, s.Root()) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("the loop ended after %d, not %d", n, stop)
		}
	}
	for e, err := range s.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Path == "5/sub/small" {
			break
		}
	}
}
