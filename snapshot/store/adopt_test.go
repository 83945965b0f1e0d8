package store_test

import (
	"context"
	"errors"
	"os"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func saved(t *testing.T, x *store.Session, key string, roots ...blocks.Block) {
	t.Helper()
	r := store.StatRecord{Key: []byte(key), Value: []byte("value of " + key)}
	for _, b := range roots {
		r.Roots = append(r.Roots, b.Cid())
	}
	if err := x.SaveStat(t.Context(), []store.StatRecord{r}); err != nil {
		t.Fatal(err)
	}
}

func wantAdopted(t *testing.T, x *store.Session, want bool, b blocks.Block) {
	t.Helper()
	got, err := x.Adopt(t.Context(), []cid.Cid{b.Cid()})
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != want {
		t.Fatalf("adopted %v, want %v", got[0], want)
	}
}

func wantStat(t *testing.T, x *store.Session, key, want string) {
	t.Helper()
	v, err := x.LoadStat(t.Context(), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	if string(v) != want {
		t.Fatalf("stat record %q is %q, want %q", key, v, want)
	}
}

// rooted puts a block that passes for a root, and one that passes for what is below it.
func rooted(t *testing.T, x *store.Session, n uint64) (root, child blocks.Block) {
	t.Helper()
	child = blockstest.Random(n, 1, 500)[0]
	root = blockstest.Block(cid.DagCBOR, child.RawData()[:100])
	put(t, x, child, root)
	return root, child
}

func TestOnlyCompleteRootsAreAdopted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	x := session(t, s)
	whole, _ := rooted(t, x, 1)
	other, child := rooted(t, x, 2)
	saved(t, x, "whole", whole)
	wantStat(t, x, "whole", "value of whole")
	wantStat(t, x, "other", "")
	sync(t, x)
	mustClose(t, s)

	s = open(t, dir, store.Options{})
	x = session(t, s)
	wantStat(t, x, "whole", "value of whole")
	wantAdopted(t, x, true, whole)
	wantAdopted(t, x, false, other)
	wantAdopted(t, x, true, child) // a raw block is all there is of it
	wantAdopted(t, x, false, blockstest.Random(9, 1, 10)[0])
	asLeaf := cid.NewCidV1(cid.DagProtobuf, whole.Cid().Hash())
	if got, err := x.Adopt(t.Context(), []cid.Cid{asLeaf}); err != nil || got[0] {
		t.Errorf("adopted under another codec: %v, %v", got, err)
	}
}

func TestStatRecordsAreNotDurableBeforeTheirBlocks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	x := session(t, s)
	root, _ := rooted(t, x, 1)
	saved(t, x, "dir", root)
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	y := session(t, open(t, copied, store.Options{}))
	wantStat(t, y, "dir", "")
	wantAdopted(t, y, false, root)
}

func TestAdoptedRootsAreHandedToTheSweep(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	x := session(t, s)
	root, child := rooted(t, x, 1)
	saved(t, x, "dir", root)
	sync(t, x)
	mustClose(t, x)
	x = session(t, s)
	wantAdopted(t, x, true, root)
	sw := begin(t, s)
	late := session(t, s)
	if roots := sw.Roots(); len(roots) != 1 || !roots[0].Equals(root.Cid()) {
		t.Fatalf("roots %v", roots)
	}
	wantAdopted(t, late, true, root)
	if roots := sw.Roots(); len(roots) != 1 {
		t.Fatalf("roots adopted since: %v", roots)
	}
	finish(t, sw, root, child)
	wantAdopted(t, late, true, root)
	if roots := begin(t, s).Roots(); len(roots) < 2 {
		t.Fatalf("a second sweep is handed %v", roots)
	}
}

func TestASweepVoidsTheMarksOfWhatItDoesNotKeepWhole(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	x := session(t, s)
	gone, _ := rooted(t, x, 1)
	touched, below := rooted(t, x, 2)
	live, child := rooted(t, x, 3)
	saved(t, x, "dir", gone, touched, live)
	sync(t, x)
	mustClose(t, x)

	x = session(t, s)
	if _, err := x.Has(t.Context(), touched.Cid()); err != nil {
		t.Fatal(err)
	}
	finish(t, begin(t, s), live, child)
	wantNone(t, s, []blocks.Block{gone, below})
	wantAll(t, s, []blocks.Block{touched, live, child})
	wantAdopted(t, x, false, touched)
	wantAdopted(t, x, true, live)
	put(t, x, gone)
	wantAdopted(t, x, false, gone)
}

func TestRootsAreNotAdoptedOnceTheSweepHasDecidedAgainstThem(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	x := session(t, s)
	root, child := rooted(t, x, 1)
	saved(t, x, "dir", root)
	sync(t, x)
	mustClose(t, x)
	x = session(t, s)
	sw := begin(t, s)
	if _, _, err := sw.Remove(t.Context(), false, nothing); err != nil {
		t.Fatal(err)
	}
	wantAdopted(t, x, false, root)
	wantNone(t, s, []blocks.Block{root, child})
}

func TestADropOrALackingBlockEndsAllCompleteness(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	x := session(t, s)
	root, child := rooted(t, x, 1)
	saved(t, x, "dir", root)
	sync(t, x)
	wantAdopted(t, x, true, root)
	if err := s.Drop(t.Context(), child.Cid()); err != nil {
		t.Fatal(err)
	}
	wantAdopted(t, x, true, root) // nothing was wrong with it
	if err := spoil(dir, child); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(t.Context(), child.Cid()); err != nil {
		t.Fatal(err)
	}
	wantAdopted(t, x, false, root)
	y := session(t, s)
	put(t, y, child)
	saved(t, y, "dir", root)
	sync(t, y)
	wantAdopted(t, y, true, root)
	stop := errors.New("stop")
	if _, _, err := begin(t, s).Remove(t.Context(), false, func(context.Context) (bool, error) { return true, stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	wantAdopted(t, y, false, root)
}

// What a session found before a block below it was dropped, it vouches for after.
func TestNoSessionMarksCompleteWhatItFoundBeforeADrop(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	x := session(t, s)
	part, child := rooted(t, x, 1)
	saved(t, x, "part", part)
	sync(t, x)
	wantAdopted(t, x, true, part)
	if err := spoil(dir, child); err != nil {
		t.Fatal(err)
	}
	whole := blockstest.Block(cid.DagCBOR, []byte("over part"))
	put(t, x, whole)
	saved(t, x, "early", whole)
	if err := s.Drop(t.Context(), child.Cid()); err != nil {
		t.Fatal(err)
	}
	saved(t, x, "late", whole, part)
	sync(t, x)
	for _, y := range []*store.Session{x, session(t, s)} {
		wantAdopted(t, y, false, whole)
		wantAdopted(t, y, false, part)
		wantStat(t, y, "late", "value of late")
	}
}
