package store_test

import (
	"context"
	"errors"
	"os"
	gosync "sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"

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
