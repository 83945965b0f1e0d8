package store_test

import (
	"errors"
	"os"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func TestCompactionSavesWhatIsSoundInAShortPackAndStillKnowsTheRestAsLost(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 12, 1000)
	put(t, s, bs...)
	mustClose(t, s)
	lose(t, dir, 1, 8*lossyFrame+300)
	dead, live, gone := bs[:6], bs[6:8], bs[8:]
	s = open(t, dir, store.Options{})
	sw := begin(t, s)
	for _, b := range gone[:3] {
		if _, _, err := sw.Mark(t.Context(), b.Cid()); err != nil {
			t.Fatal(err)
		}
	}
	removed, freed := finish(t, sw, live...)
	if want := int64(6*lossyFrame + 300); removed != 7 || freed != want {
		t.Errorf("removed %d blocks and freed %d bytes, want 7 and %d", removed, freed, want)
	}
	if _, err := os.Stat(packFile(dir, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the short pack: %v", err)
	}
	for range 2 {
		wantAll(t, s, live)
		wantNone(t, s, dead)
		wantNone(t, s, gone[3:])
		wantLost(t, s, gone[:3])
		put(t, s, blockstest.Random(2, 1, 1000)...)
		mustClose(t, s)
		s = open(t, dir, store.Options{})
	}
	put(t, s, bs...)
	wantAll(t, s, bs)
}

// A pack may be cut while the store is open, and even between two blocks.
func TestCompactionLeavesAPackInWhichItDoesNotFindAllBlocks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 8, 1000)
	put(t, s, bs...)
	sync(t, s)
	lose(t, dir, 1, 6*lossyFrame)
	finish(t, begin(t, s), bs[4:]...)
	wantAll(t, s, bs[4:6])
	for _, b := range bs[6:] {
		if _, err := s.Get(t.Context(), b.Cid()); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("got %v, want damaged", err)
		}
	}
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	wantAll(t, s, bs[4:6])
	wantLost(t, s, bs[6:])
	put(t, s, bs...)
	wantAll(t, s, bs)
}

func TestCompactionLeavesAShortPackThatIsMostlyAliveToBePutBack(t *testing.T) {
	dir := t.TempDir()
	root, bs := threePacks(t, dir)
	lose(t, dir, 2, 3*lossyFrame+20)
	before := tree(t, dir)
	s := open(t, dir, store.Options{PackSize: 1})
	collectKeeping(t, s, append(without(bs, 7, 8), root), bs[7:8])
	if after := tree(t, dir); after != before {
		t.Errorf("files changed from\n%s to\n%s", before, after)
	}
}

func TestCompactionPassesOverAPackThatIsLostUnderIt(t *testing.T) {
	dir := t.TempDir()
	root, bs := threePacks(t, dir)
	lose(t, dir, 2, 2*lossyFrame)
	s := open(t, dir, store.Options{PackSize: 1})
	lose(t, dir, 2, -1)
	put(t, s, bs...)
	finish(t, begin(t, s), append(bs, root)...)
	wantAll(t, s, without(bs, 4, 6))
	for _, b := range bs[4:6] {
		if _, err := s.Get(t.Context(), b.Cid()); !errors.Is(err, snapshot.ErrDamaged) {
			t.Errorf("got %v, want damaged", err)
		}
	}
	mustClose(t, s)
	s = open(t, dir, store.Options{PackSize: 1})
	wantLost(t, s, bs[4:6])
	put(t, s, bs...)
	wantAll(t, s, bs)
}
