package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func packFile(dir string, id int) string {
	return filepath.Join(dir, "packs", fmt.Sprintf("%08d.pack", id))
}

// warnings opens a store, lets fn work with it, closes it and returns what was logged.
func warnings(t *testing.T, dir string, o store.Options, fn func(*store.Store)) string {
	t.Helper()
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := open(t, dir, o)
	fn(s)
	mustClose(t, s)
	return log.String()
}

// wantLost checks that blocks are damaged for every way to read them, and absent for those who would put them.
func wantLost(t *testing.T, s *store.Store, bs []blocks.Block) {
	t.Helper()
	x := session(t, s)
	defer x.Close()
	for _, b := range bs {
		c := b.Cid()
		_, get := s.Get(t.Context(), c)
		_, into := s.GetInto(t.Context(), c, make([]byte, 0, 4096))
		_, xget := x.Get(t.Context(), c)
		_, xinto := x.GetInto(t.Context(), c, nil)
		for _, err := range []error{get, into, xget, xinto} {
			if !errors.Is(err, snapshot.ErrDamaged) || !strings.Contains(err.Error(), ".pack") {
				t.Fatalf("got %v, want damaged, and the file's name", err)
			}
		}
	}
	wantHas(t, s, false, bs)
	wantHas(t, x, false, bs)
}

func wantHas(t *testing.T, b snapshot.Blocks, want bool, bs []blocks.Block) {
	t.Helper()
	for _, k := range bs {
		if has, err := b.Has(t.Context(), k.Cid()); err != nil || has[0] != want {
			t.Fatalf("has %v, %v, want %v", has, err, want)
		}
	}
}

// threePacks makes a store of three packs with four blocks each and a fourth with a root that is complete.
func threePacks(t *testing.T, dir string) (root blocks.Block, bs []blocks.Block) {
	t.Helper()
	s := open(t, dir, store.Options{PackSize: 1})
	x := session(t, s)
	root, bs = blockstest.Block(cid.DagCBOR, []byte("root")), blockstest.Random(1, 12, 1000)
	for i := 0; i < len(bs); i += 4 {
		put(t, x, bs[i:i+4]...)
	}
	put(t, x, root)
	saved(t, x, "dir", root)
	sync(t, x)
	wantAdopted(t, x, true, root)
	mustClose(t, s)
	return root, bs
}

var losses = []struct {
	name       string
	pack       int
	size       int64 // -1: missing
	from, upto int   // blocks lost
}{
	{"a missing pack", 2, -1, 4, 8},
	{"an empty pack", 2, 0, 4, 8},
	{"a pack that ends in a block", 2, 2*lossyFrame + 500, 6, 8},
	{"a pack that lacks its last byte", 2, 4*lossyFrame - 1, 7, 8},
	{"a pack that ends between blocks", 2, 2 * lossyFrame, 6, 8},
	{"a pack that ends in a header", 2, 2*lossyFrame + 10, 6, 8},
	{"the first pack missing", 1, -1, 0, 4},
	{"the third pack cut short", 3, lossyFrame, 9, 12},
}

func lose(t *testing.T, dir string, pack int, size int64) {
	t.Helper()
	path := packFile(dir, pack)
	err := os.Remove
	if size >= 0 {
		err = func(path string) error { return os.Truncate(path, size) }
	}
	if err := err(path); err != nil {
		t.Fatal(err)
	}
}

func without(bs []blocks.Block, from, upto int) []blocks.Block {
	return append(append([]blocks.Block(nil), bs[:from]...), bs[upto:]...)
}

func TestALossCostsItsBlocksAndNoOthers(t *testing.T) {
	for _, tc := range losses {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			root, bs := threePacks(t, dir)
			lose(t, dir, tc.pack, tc.size)
			gone, kept := bs[tc.from:tc.upto], without(append(bs, root), tc.from, tc.upto)
			before := tree(t, dir)
			check := func(s *store.Store) {
				wantAll(t, s, kept)
				wantHas(t, s, true, kept)
				wantLost(t, s, gone)
				if st, err := s.Stats(t.Context()); err != nil || st.Blocks != int64(len(bs)+1) {
					t.Fatalf("stats %+v, %v", st, err)
				}
				wantAdopted(t, session(t, s), false, root)
				wantAdopted(t, session(t, s), false, gone[0])
				wantAdopted(t, session(t, s), true, kept[0])
			}
			for _, o := range []store.Options{{ReadOnly: true}, {}, {ReadOnly: true}, {PackSize: 1}} {
				said := warnings(t, dir, o, check)
				if strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, packFile(dir, tc.pack)) || !strings.Contains(said, "volary verify") {
					t.Fatalf("opening says %q", said)
				}
			}
			if after := tree(t, dir); after != before {
				t.Errorf("files changed from\n%s to\n%s", before, after)
			}
			s := open(t, dir, store.Options{})
			collectKeeping(t, s, kept, gone)
			check(s)
			put(t, s, bs...)
			wantAll(t, s, bs)
			wantHas(t, s, true, bs)
			mustClose(t, s)
			warnings(t, dir, store.Options{ReadOnly: true}, func(s *store.Store) { wantCount(t, s, len(bs)+1) })
			s = open(t, dir, store.Options{})
			finish(t, begin(t, s), append(bs, root)...)
			finish(t, begin(t, s), append(bs, root)...)
			wantCount(t, s, len(bs)+1)
			mustClose(t, s)
			if said := warnings(t, dir, store.Options{}, func(s *store.Store) { wantCount(t, s, len(bs)+1) }); said != "" {
				t.Errorf("nothing is lost any more, and opening says %q", said)
			}
		})
	}
}

// collectKeeping collects with all blocks marked, of which some are lost.
func collectKeeping(t *testing.T, s *store.Store, kept, gone []blocks.Block) {
	t.Helper()
	sw := begin(t, s)
	for _, b := range gone {
		if _, found, err := sw.Mark(t.Context(), b.Cid()); err != nil || found {
			t.Fatalf("a lost block is found by the collection: %v, %v", found, err)
		}
	}
	if removed, _ := finish(t, sw, kept...); removed != 0 {
		t.Fatalf("%d blocks removed", removed)
	}
}

func TestALostBlockThatIsDeadIsForgottenWithItsPack(t *testing.T) {
	for _, tc := range losses {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			root, bs := threePacks(t, dir)
			lose(t, dir, tc.pack, tc.size)
			gone, kept := bs[tc.from:tc.upto], without(append(bs, root), tc.from, tc.upto)
			s := open(t, dir, store.Options{})
			if removed, _ := finish(t, begin(t, s), kept...); removed != int64(len(gone)) {
				t.Errorf("%d blocks removed, want %d", removed, len(gone))
			}
			wantNone(t, s, gone)
			wantCount(t, s, len(kept))
			mustClose(t, s)
			if said := warnings(t, dir, store.Options{}, func(s *store.Store) { wantCount(t, s, len(kept)) }); said != "" {
				t.Errorf("nothing is lost any more, and opening says %q", said)
			}
		})
	}
}

func TestALostBlockCanBeDroppedAndPutAgain(t *testing.T) {
	dir := t.TempDir()
	_, bs := threePacks(t, dir)
	lose(t, dir, 2, lossyFrame+1)
	s := open(t, dir, store.Options{})
	for _, b := range bs {
		if err := s.Drop(t.Context(), b.Cid()); err != nil {
			t.Fatal(err)
		}
	}
	wantNone(t, s, bs[5:8])
	wantAll(t, s, without(bs, 5, 8))
	put(t, s, bs[5:8]...)
	wantAll(t, s, bs)
	mustClose(t, s)
	wantAll(t, open(t, dir, store.Options{}), bs)
}

// What is appended to a short pack would be where the index knows other blocks, and so would a new pack of the
// number of a missing one.
func TestNothingIsWrittenWhereSomethingIsLost(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int64
	}{{"missing", -1}, {"empty", 0}, {"short", 2*lossyFrame + 7}} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, store.Options{})
			bs := blockstest.Random(1, 4, 1000)
			put(t, s, bs...)
			mustClose(t, s)
			lose(t, dir, 1, tc.size)
			for round := range uint64(3) {
				s = open(t, dir, store.Options{})
				more := blockstest.Random(2+round, 5, 1000)
				put(t, s, more...)
				sync(t, s)
				wantAll(t, s, more)
				wantLost(t, s, bs[3:])
				mustClose(t, s)
			}
			fi, err := os.Stat(packFile(dir, 1))
			if tc.size < 0 && !errors.Is(err, os.ErrNotExist) || tc.size >= 0 && (err != nil || fi.Size() != tc.size) {
				t.Errorf("pack 1 was touched: %v, %v", fi, err)
			}
			if fi, err := os.Stat(packFile(dir, 2)); err != nil || fi.Size() != 15*lossyFrame {
				t.Errorf("pack 2: %v, %v", fi, err)
			}
		})
	}
}

// A lost block that was put again must not be taken for a copy of itself when its frame is found in a tail.
func TestALostBlockPutAgainIsFoundAfterAKill(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	root, bs := threePacks(t, dir)
	lose(t, dir, 2, -1)
	s := open(t, dir, store.Options{})
	put(t, s, bs...)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, o := range []store.Options{{ReadOnly: true}, {}, {ReadOnly: true}} {
		s := open(t, copied, o)
		wantAll(t, s, append(bs, root))
		wantHas(t, s, true, bs)
		wantCount(t, s, len(bs)+1)
		mustClose(t, s)
	}
}

func TestAPackThatIsPutBackIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	root, bs := threePacks(t, dir)
	data, err := os.ReadFile(packFile(dir, 2))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		lose(t, dir, 2, 100)
		warnings(t, dir, store.Options{}, func(s *store.Store) { wantLost(t, s, bs[4:8]) })
		// A part of it is no end of the loss, and a loss of that part a new one.
		if err := os.WriteFile(packFile(dir, 2), data[:2*lossyFrame], 0o600); err != nil {
			t.Fatal(err)
		}
		warnings(t, dir, store.Options{}, func(s *store.Store) {
			wantAll(t, s, bs[4:6])
			wantLost(t, s, bs[6:8])
		})
		lose(t, dir, 2, -1)
		warnings(t, dir, store.Options{}, func(s *store.Store) { wantLost(t, s, bs[4:8]) })
		if err := os.WriteFile(packFile(dir, 2), data, 0o600); err != nil {
			t.Fatal(err)
		}
		said := warnings(t, dir, store.Options{}, func(s *store.Store) {
			wantCount(t, s, len(bs)+1)
			x := session(t, s)
			wantAdopted(t, x, false, root)
			saved(t, x, "dir", root)
			sync(t, x)
			wantAdopted(t, x, true, root)
		})
		if said != "" {
			t.Errorf("opening says %q", said)
		}
	}
}

func TestALossThatIsKnownVoidsNoMarkMadeSince(t *testing.T) {
	dir := t.TempDir()
	root, _ := threePacks(t, dir)
	lose(t, dir, 2, -1)
	s := open(t, dir, store.Options{})
	x := session(t, s)
	saved(t, x, "dir", root)
	sync(t, x)
	wantAdopted(t, x, true, root)
	mustClose(t, s)
	for _, o := range []store.Options{{ReadOnly: true}, {}} {
		s = open(t, dir, o)
		wantAdopted(t, session(t, s), true, root)
		mustClose(t, s)
	}
	lose(t, dir, 3, 0)
	for _, o := range []store.Options{{ReadOnly: true}, {}} {
		s = open(t, dir, o)
		wantAdopted(t, session(t, s), false, root)
		mustClose(t, s)
	}
}
