package store_test

import (
	"context"
	"errors"
	"os"
	gosync "sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func session(t *testing.T, s *store.Store) *store.Session {
	t.Helper()
	x, err := s.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func begin(t *testing.T, s *store.Store) *store.Sweep {
	t.Helper()
	sw, err := s.BeginSweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sw.Close() })
	return sw
}

func nothing(context.Context) (bool, error) { return false, nil }

// finish removes, compacts and closes, after marking some blocks; it returns the blocks removed and bytes freed.
func finish(t *testing.T, sw *store.Sweep, live ...blocks.Block) (removed, freed int64) {
	t.Helper()
	for _, b := range live {
		if _, found, err := sw.Mark(t.Context(), b.Cid()); err != nil || !found {
			t.Fatalf("mark %s: found %v, %v", b.Cid(), found, err)
		}
	}
	_, gone, err := sw.Remove(t.Context(), false, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if freed, err = sw.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sw.Close(); err != nil {
		t.Fatal(err)
	}
	return gone.Blocks, freed
}

func TestSweepRemovesTheUnmarkedAndGivesSpaceBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{PackSize: 200 << 10})
	bs := append(blockstest.Random(1, 300, 3000), blockstest.Random(2, 4, 200<<10)...)
	put(t, s, bs...)
	var live, dead []blocks.Block
	for i, b := range bs {
		if i%2 == 0 {
			live = append(live, b)
		} else {
			dead = append(dead, b)
		}
	}
	before := diskUse(t, dir)
	removed, told := finish(t, begin(t, s), live...)
	if freed := before - diskUse(t, dir); freed != told || freed < before*4/10 {
		t.Errorf("freed %d of %d bytes, reported %d", freed, before, told)
	}
	if removed != int64(len(dead)) {
		t.Errorf("removed %d of %d", removed, len(dead))
	}
	for range 2 {
		wantAll(t, s, live)
		wantNone(t, s, dead)
		wantCount(t, s, len(live))
		mustClose(t, s)
		s = open(t, dir, store.Options{})
	}
	put(t, s, dead...)
	wantAll(t, s, bs)
}

func diskUse(t *testing.T, dir string) int64 {
	t.Helper()
	var n int64
	for _, p := range packs(t, dir) {
		fi, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		n += fi.Size()
	}
	return n
}

func TestSweepOfAWholeStoreLeavesNoPack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	put(t, s, blockstest.Random(1, 100, 1000)...)
	finish(t, begin(t, s))
	wantCount(t, s, 0)
	if left := packs(t, dir); len(left) != 0 {
		t.Errorf("packs left: %v", left)
	}
}

func TestOneSweepAtATime(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	sw := begin(t, s)
	if _, err := s.BeginSweep(t.Context()); !errors.Is(err, store.ErrBusy) {
		t.Fatalf("a second sweep: %v", err)
	}
	finish(t, sw)
	finish(t, begin(t, s))
}

func TestAbandonedSweepRemovesNothing(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	bs := blockstest.Random(1, 10, 100)
	put(t, s, bs...)
	begin(t, s).Close()
	sw := begin(t, s)
	stop := errors.New("stop")
	if _, _, err := sw.Remove(t.Context(), false, func(context.Context) (bool, error) { return false, stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	wantAll(t, s, bs)
}

func TestSessionProtectsWhatItPutAndFoundAndGot(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	bs := blockstest.Random(1, 10, 1000)
	old, found, again, loose, got := bs[0:2], bs[2:4], bs[4:6], bs[6:8], bs[8:10]
	put(t, s, bs...)
	sync(t, s)
	x := session(t, s)
	fresh := blockstest.Random(2, 3, 1000)
	put(t, x, fresh[0])
	put(t, x, again...)
	if has, err := x.Has(t.Context(), found[0].Cid(), found[1].Cid()); err != nil || !has[0] || !has[1] {
		t.Fatal(has, err)
	}
	wantAll(t, x, got[:1])
	sw := begin(t, s)
	put(t, x, fresh[1])
	wantAll(t, x, got[1:])
	finish(t, sw, old...)
	put(t, x, fresh[2])
	wantAll(t, s, old)
	wantAll(t, s, found)
	wantAll(t, s, again)
	wantAll(t, s, got)
	wantAll(t, s, fresh)
	wantNone(t, s, loose)

	mustClose(t, x)
	finish(t, begin(t, s), old...)
	wantAll(t, s, old)
	wantNone(t, s, found)
	wantNone(t, s, again)
	wantNone(t, s, got)
	wantNone(t, s, fresh)
}

// A writer closes its session once its pin is recorded; a sweep that listed the pins before that must still
// honour the session.
func TestSessionClosedDuringASweepStillProtects(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	bs := blockstest.Random(1, 4, 1000)
	put(t, s, bs...)
	x, late := session(t, s), blockstest.Random(2, 1, 100)
	if _, err := x.Has(t.Context(), bs[0].Cid()); err != nil {
		t.Fatal(err)
	}
	sw := begin(t, s)
	y := session(t, s)
	put(t, y, bs[1], late[0])
	mustClose(t, x)
	mustClose(t, y)
	finish(t, sw)
	wantAll(t, s, append(bs[:2:2], late...))
	wantNone(t, s, bs[2:])
}

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

// Readers must not notice that packs are rewritten below them.
func TestReadersGoOnWhilePacksAreRewritten(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{PackSize: 50 << 10})
	live := blockstest.Random(1, 100, 2000)
	put(t, s, live...)
	ctx, stop := context.WithCancel(t.Context())
	var readers gosync.WaitGroup
	for g := range 3 {
		readers.Go(func() {
			for i := g; ctx.Err() == nil; i++ {
				b := live[i%len(live)]
				if _, err := s.Get(context.WithoutCancel(ctx), b.Cid()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range 15 {
		put(t, s, blockstest.Random(uint64(100+round), 100, 2000)...)
		finish(t, begin(t, s), live...)
	}
	stop()
	readers.Wait()
	wantCount(t, s, len(live))
}
