package view

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func table(t testing.TB) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "table"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func viewOf(t testing.TB, b snapshot.Blocks, c cid.Cid, f *os.File) *View {
	t.Helper()
	return viewWith(t, b, c, f, Options{})
}

func viewWith(t testing.TB, b snapshot.Blocks, c cid.Cid, f *os.File, o Options) *View {
	t.Helper()
	s, err := tree.Open(context.Background(), b, c)
	must(t, err)
	sl, err := openSlots(f)
	must(t, err)
	v, err := newView(context.Background(), s, o, sl)
	must(t, err)
	return v
}

func nested(depth int) tt.Node {
	if depth == 0 {
		return tt.File("leaf")
	}
	return tt.Dir(map[string]tt.Node{"a": nested(depth - 1), "b": tt.File(fmt.Sprint(depth)), "c": nested(depth - 1)})
}

func TestAServerAnswersForNumbersItNeverGaveOut(t *testing.T) {
	ctx := context.Background()
	b := tt.NewMemory()
	mixed := nested(4)
	mixed.Children["a"].Children["c"] = tt.Dir(map[string]tt.Node{"x": tt.File("x"), "y": nested(2)})
	x := mixed.Children["a"].Children["c"]
	x.NoRow = true
	mixed.Children["a"].Children["c"] = x
	for name, c := range map[string]cid.Cid{"rows": tt.Commit(t, b, nested(5)), "no rows": tt.Tree(t, b, nested(5)), "some": tt.Commit(t, b, mixed)} {
		t.Run(name, func(t *testing.T) {
			f := table(t)
			first := viewOf(t, b, c, f)
			ids := map[uint64]string{fuse.FUSE_ROOT_ID: ""}
			for l, err := range first.snap.Walk(ctx, "", tree.Limits{}) {
				must(t, err)
				if l.Path == "" {
					continue
				}
				p, err := first.lookup(ctx, l.Path)
				must(t, err)
				id := p.l.at(p.i).id
				if other, taken := ids[id]; taken {
					t.Fatalf("%q and %q have number %d", l.Path, other, id)
				}
				ids[id] = l.Path
			}
			for id, want := range ids {
				p, err := viewOf(t, b, c, f).locate(ctx, id)
				if err != nil || p.path() != want {
					t.Errorf("%d is %q, %v, want %q", id, p.path(), err, want)
				}
			}
			for _, id := range []uint64{0, 1 << 40, slotBit, slotBit | 5, slotBit | slotMask<<placeLen, math.MaxUint64} {
				if _, named := ids[id]; named {
					continue
				}
				if p, err := first.locate(ctx, id); !errors.Is(err, errNoSlot) {
					t.Errorf("%#x is %q, %v", id, p.path(), err)
				}
			}
		})
	}
}

func TestCountsThatDoNotAddUpAreRefused(t *testing.T) {
	ctx := context.Background()
	for name, below := range map[string]uint64{"too few": 1, "huge": math.MaxUint64 - 1, "beyond what numbers have": slotBit} {
		t.Run(name, func(t *testing.T) {
			b := tt.NewMemory()
			inner, _, err := meta.WriteDir(ctx, b, []meta.Row{{Name: "f", Attr: meta.Attr{Type: meta.File}}})
			must(t, err)
			rows, _, err := meta.WriteDir(ctx, b, []meta.Row{{Name: "d", Attr: meta.Attr{Type: meta.Dir, Below: below, Entries: inner}}})
			must(t, err)
			m, err := meta.WriteRoot(ctx, b, meta.Attr{Type: meta.Dir, Below: 1, Entries: rows}, nil)
			must(t, err)
			top := tt.Tree(t, b, tt.Dir(map[string]tt.Node{"d": tt.Dir(map[string]tt.Node{"f": tt.File("f")})}))
			v := viewOf(t, b, tt.CommitOf(t, b, top, m), table(t))
			if _, err := v.dir(ctx, fuse.FUSE_ROOT_ID); !errors.Is(err, snapshot.ErrFormat) {
				t.Errorf("listed: %v", err)
			}
		})
	}
}

func TestASlotIsOneDirectorys(t *testing.T) {
	f := table(t)
	s, err := openSlots(f)
	must(t, err)
	taken := scatter(7) & slotMask
	s.dir[taken] = 99 // as if another directory had it
	slot, err := s.of(7)
	must(t, err)
	if slot == taken {
		t.Error("two directories have a slot")
	}
	if dir, place, err := s.decode(s.number(slot, 12)); dir != 7 || place != 12 || err != nil {
		t.Errorf("decoded %d, %d, %v", dir, place, err)
	}
	if again, err := s.of(7); err != nil || again != slot {
		t.Errorf("again: %d, %v", again, err)
	}
}

func TestWhoeverListsOneDirectoryAfterAnotherFindsTheNextOneRead(t *testing.T) {
	ctx := context.Background()
	b := tt.NewMemory()
	sub := func() tt.Node { return tt.Dir(map[string]tt.Node{"f": tt.File("x")}) }
	c := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"a": sub(), "b": tt.File("between"), "c": sub(), "d": sub(), "e": sub()}))
	v := viewOf(t, b, c, table(t))
	id := func(path string) uint64 {
		p, err := v.lookup(ctx, path)
		must(t, err)
		return p.l.at(p.i).id
	}
	list := func(path string) {
		out := fuse.NewDirEntryList(make([]byte, 4096), 0)
		if s := v.ReadDirPlus(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id(path)}}, out); !s.Ok() {
			t.Fatalf("list %s: %v", path, s)
		}
		v.ahead.wait()
	}
	read := func(path string) bool {
		_, held := v.memory.listings.peek(listingKey{v.number, id(path)})
		return held
	}
	if list("a"); read("c") {
		t.Error("one that nobody asked for was read")
	}
	if list("c"); !read("d") || read("e") {
		t.Errorf("after two: the third %v, the fourth %v", read("d"), read("e"))
	}
	if list("e"); !read("e") {
		t.Error("the last one is not read")
	}
}

func TestViewsWithOneMemoryKeepApartWhatIsTheirs(t *testing.T) {
	ctx := context.Background()
	b, m := tt.NewMemory(), NewMemory()
	hidden := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"sub": tt.Dir(map[string]tt.Node{"x": tt.File("x")})}))
	other := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"tub": tt.Dir(map[string]tt.Node{"y": tt.File("x")})}))
	first, second := viewWith(t, b, hidden, table(t), Options{Memory: m}), viewWith(t, b, other, table(t), Options{Memory: m})
	for range 2 {
		for v, paths := range map[*View][2]string{first: {"sub/x", "tub/y"}, second: {"tub/y", "sub/x"}} {
			if p, err := v.lookup(ctx, paths[0]); err != nil || p.path() != paths[0] {
				t.Errorf("own %q: %q, %v", paths[0], p.path(), err)
			}
			if _, err := v.lookup(ctx, paths[1]); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the other's %q: %v", paths[1], err)
			}
		}
	}
	before := m.listings.size
	m.forget(first.number)
	if _, held := m.listings.peek(listingKey{first.number, fuse.FUSE_ROOT_ID}); held || m.listings.size >= before {
		t.Errorf("a view that ended is still held, %d of %d bytes", m.listings.size, before)
	}
	if _, held := m.listings.peek(listingKey{second.number, fuse.FUSE_ROOT_ID}); !held {
		t.Error("with a view another one's directories are gone")
	}
}

func TestWhatSeveralAskForIsLoadedOnce(t *testing.T) {
	c := newCache[int, int](100)
	for k := range 500 { // who asks looks at moments of its own: before, during and after the load
		var loads atomic.Int32
		release := make(chan struct{})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				v, err := c.get(t.Context(), k, true, func() (int, int, error) {
					loads.Add(1)
					<-release
					return 11, 40, nil
				})
				if v != 11 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		close(release)
		all.Wait()
		if n := loads.Load(); n != 1 {
			t.Fatalf("loaded %d times", n)
		}
	}
}

func TestACacheIsBounded(t *testing.T) {
	c := newCache[int, int](100)
	for k := range 10 {
		if _, err := c.get(t.Context(), k, true, func() (int, int, error) { return k, 40, nil }); err != nil {
			t.Error(err)
		}
	}
	if c.size > 100 || len(c.held) > 2 {
		t.Errorf("holds %d of %d bytes", len(c.held), c.size)
	}
	if _, err := c.get(t.Context(), 50, true, func() (int, int, error) { return 0, 0, os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) || c.busy(50) {
		t.Errorf("a failure is kept: %v", err)
	}
}

func TestWhoWaitsForALoadKeepsTimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache[int, int](100)
		slow := func(ctx context.Context, d time.Duration) func() (int, int, error) {
			return func() (int, int, error) {
				select {
				case <-time.After(d):
					return 11, 40, nil
				case <-ctx.Done():
					return 0, 0, os.ErrDeadlineExceeded // not what the context says
				}
			}
		}
		within := func(d, takes time.Duration) func() (int, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			done := make(chan struct{})
			var v int
			var err error
			start := time.Now()
			var took time.Duration
			go func() {
				defer close(done)
				defer cancel()
				v, err = c.get(ctx, 1, true, slow(ctx, takes))
				took = time.Since(start)
			}()
			synctest.Wait()
			return func() (int, time.Duration, error) { <-done; return v, took, err }
		}
		first, short, long := within(10*time.Second, time.Hour), within(time.Second, time.Second), within(time.Minute, 5*time.Second)
		if v, took, err := short(); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("who has a second got %d, %v after %v", v, err, took)
		}
		if v, took, err := first(); !errors.Is(err, os.ErrDeadlineExceeded) || took != 10*time.Second {
			t.Errorf("who loads got %d, %v after %v", v, err, took)
		}
		if v, took, err := long(); v != 11 || err != nil || took != 15*time.Second {
			t.Errorf("who has a minute got %d, %v after %v", v, err, took)
		}
	})
}

func TestDeviceNumbersAreThoseOfTheKernel(t *testing.T) {
	for _, d := range []struct{ major, minor, want uint32 }{{1, 3, 0x103}, {8, 1, 0x801}, {4000, 70000, 0x70<<0 | 4000<<8 | (70000&^0xff)<<12}} {
		if got := device(d.major, d.minor); got != d.want {
			t.Errorf("%d:%d is %#x, want %#x", d.major, d.minor, got, d.want)
		}
	}
}
