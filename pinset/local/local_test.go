package local_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func open(t *testing.T, dir string) (*store.Store, *local.Set) {
	t.Helper()
	st, err := store.Open(dir, store.Options{PackSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st, local.New(st, st.BeginSweep)
}

func TestSetKeepsTheContract(t *testing.T) {
	pinsettest.Run(t, func(t *testing.T) (pinset.Set, func(int) cid.Cid) {
		st, set := open(t, t.TempDir())
		return set, func(n int) cid.Cid {
			b := blockstest.Raw(fmt.Appendf(nil, "root %d", n))
			put(t, st, b)
			return b.Cid()
		}
	})
}

func put(t *testing.T, st snapshot.Blocks, bs ...blocks.Block) {
	t.Helper()
	if err := st.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	if err := st.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// node makes a dag-pb block that links to others.
func node(t *testing.T, links ...blocks.Block) blocks.Block {
	t.Helper()
	nd := merkledag.NodeWithData([]byte("node"))
	nd.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: mh.SHA2_256})
	for i, l := range links {
		if err := nd.AddRawLink(fmt.Sprint(i), &ipld.Link{Cid: l.Cid()}); err != nil {
			t.Fatal(err)
		}
	}
	return blockstest.Block(cid.DagProtobuf, nd.RawData())
}

// dag makes a two-level tree of 30 leaves; the root comes last.
func dag(t *testing.T, seed uint64) []blocks.Block {
	t.Helper()
	leaves := blockstest.Random(seed, 30, 2000)
	a, b := node(t, leaves[:15]...), node(t, leaves[10:]...)
	return append(leaves, a, b, node(t, a, b))
}

func root(bs []blocks.Block) cid.Cid { return bs[len(bs)-1].Cid() }

func pin(t *testing.T, s pinset.Set, c cid.Cid) {
	t.Helper()
	if err := s.Add(t.Context(), pinset.Pin{Root: c}); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, s *local.Set) local.Report {
	t.Helper()
	r, err := s.Collect(t.Context(), local.CollectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantWhole(t *testing.T, st snapshot.Blocks, bs []blocks.Block) {
	t.Helper()
	for i, b := range bs {
		if _, err := st.Get(t.Context(), b.Cid()); err != nil {
			t.Fatalf("block %d of %d: %v", i, len(bs), err)
		}
	}
}

func wantGone(t *testing.T, st snapshot.Blocks, bs []blocks.Block) {
	t.Helper()
	for i, b := range bs {
		if _, err := st.Get(t.Context(), b.Cid()); !errors.Is(err, snapshot.ErrNotFound) {
			t.Fatalf("block %d of %d: %v, want not found", i, len(bs), err)
		}
	}
}

func TestCollectKeepsWhatIsPinnedOrTaggedAndRemovesTheRest(t *testing.T) {
	dir := t.TempDir()
	st, set := open(t, dir)
	pinned, tagged, loose := dag(t, 1), dag(t, 2), dag(t, 3)
	for _, d := range [][]blocks.Block{pinned, tagged, loose} {
		put(t, st, d...)
	}
	pin(t, set, root(pinned))
	if err := set.Tag(t.Context(), "v1", root(tagged)); err != nil {
		t.Fatal(err)
	}
	dry, err := set.Collect(t.Context(), local.CollectOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	wantWhole(t, st, loose)
	r := collect(t, set)
	if r.RemovedBlocks != int64(len(loose)) || r.KeptBlocks != int64(len(pinned)+len(tagged)) || r.FreedBytes <= 0 {
		t.Errorf("report %+v", r)
	}
	if dry.RemovedBlocks != r.RemovedBlocks || dry.RemovedBytes != r.RemovedBytes || dry.KeptBlocks != r.KeptBlocks || dry.KeptBytes != r.KeptBytes {
		t.Errorf("dry run %+v, then %+v", dry, r)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, set = open(t, dir)
	wantWhole(t, st, pinned)
	wantWhole(t, st, tagged)
	wantGone(t, st, loose)

	if err := set.Remove(t.Context(), root(pinned), ""); err != nil {
		t.Fatal(err)
	}
	if err := set.Untag(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	collect(t, set)
	wantGone(t, st, pinned)
	wantGone(t, st, tagged)
}

func TestCollectFollowsLinksOfBytesThatAreALeafElsewhere(t *testing.T) {
	st, set := open(t, t.TempDir())
	leaf := blockstest.Random(1, 1, 100)[0]
	inner := node(t, leaf)
	put(t, st, leaf, inner)
	pin(t, set, cid.NewCidV1(cid.Raw, inner.Cid().Hash()))
	pin(t, set, inner.Cid())
	collect(t, set)
	wantWhole(t, st, []blocks.Block{leaf, inner})
}

func TestCollectRemovesNothingWhenLinksOfAPinAreUnknown(t *testing.T) {
	st, set := open(t, t.TempDir())
	d, loose := dag(t, 1), dag(t, 2)
	inner := d[len(d)-2]
	put(t, st, append(append([]blocks.Block{}, d[:len(d)-2]...), d[len(d)-1])...)
	put(t, st, loose...)
	pin(t, set, root(d))
	r := collect(t, set)
	if !r.Withheld || len(r.Missing) != 1 || !r.Missing[0].Equals(inner.Cid()) || r.RemovedBlocks != 0 {
		t.Fatalf("report %+v, want %s missing and nothing removed", r, inner.Cid())
	}
	wantWhole(t, st, d[:len(d)-2])
	wantWhole(t, st, loose)
	put(t, st, inner)
	if r := collect(t, set); r.Withheld || r.RemovedBlocks != int64(len(loose)) {
		t.Fatalf("after the repair: %+v", r)
	}
	wantWhole(t, st, d)
}

func TestCollectReportsAMissingLeafAndKeepsTheRestOfItsDAG(t *testing.T) {
	st, set := open(t, t.TempDir())
	d, loose := dag(t, 1), dag(t, 2)
	put(t, st, d[1:]...)
	put(t, st, loose...)
	pin(t, set, root(d))
	r := collect(t, set)
	if r.Withheld || len(r.Missing) != 1 || !r.Missing[0].Equals(d[0].Cid()) {
		t.Fatalf("report %+v", r)
	}
	wantWhole(t, st, d[1:])
	wantGone(t, st, loose)
}

// unsound is a store that finds some blocks damaged, and cannot read others at all.
type unsound struct {
	*store.Store
	fails map[cid.Cid]error
}

func (u unsound) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := u.fails[c]; err != nil {
		return nil, err
	}
	return u.Store.Get(ctx, c)
}

func TestCollectTellsDamagedFromMissingFromUnreadable(t *testing.T) {
	st, _ := open(t, t.TempDir())
	d, loose := dag(t, 1), dag(t, 2)
	inner := d[len(d)-3]
	put(t, st, d[1:]...)
	put(t, st, loose...)
	u := unsound{st, map[cid.Cid]error{inner.Cid(): snapshot.ErrDamaged}}
	set := local.New(u, st.BeginSweep)
	pin(t, set, root(d))
	r := collect(t, set)
	if !r.Withheld || len(r.Missing) != 0 || len(r.Damaged) != 1 || !r.Damaged[0].Equals(inner.Cid()) {
		t.Errorf("a damaged block: %+v", r)
	}
	u.fails[inner.Cid()] = syscall.EIO
	if _, err := set.Collect(t.Context(), local.CollectOptions{}); !errors.Is(err, syscall.EIO) {
		t.Errorf("an unreadable block: %v", err)
	}
	wantWhole(t, st, loose)
}

func TestCollectNamesTheFirstOfManyMissingBlocksInOrder(t *testing.T) {
	st, set := open(t, t.TempDir())
	leaves := blockstest.Random(1, 3*local.MaxMissing, 50)
	top := node(t, leaves...)
	put(t, st, top)
	pin(t, set, top.Cid())
	var want []string
	for _, b := range leaves {
		want = append(want, b.Cid().KeyString())
	}
	slices.Sort(want)
	var got []string
	for _, c := range collect(t, set).Missing {
		got = append(got, c.KeyString())
	}
	if !slices.Equal(got, want[:local.MaxMissing]) {
		t.Errorf("%d missing blocks, not the first %d", len(got), local.MaxMissing)
	}
}

func TestOwnMarkOutlivesThePinAndKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	st, set := open(t, dir)
	d := dag(t, 1)
	put(t, st, d...)
	pin(t, set, root(d))
	if err := set.MarkOwn(t.Context(), root(d)); err != nil {
		t.Fatal(err)
	}
	if err := set.Remove(t.Context(), root(d), ""); err != nil {
		t.Fatal(err)
	}
	collect(t, set)
	wantGone(t, st, d)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, set = open(t, dir)
	for c, want := range map[cid.Cid]bool{root(d): true, d[0].Cid(): false} {
		if own, err := set.Own(t.Context(), c); err != nil || own != want {
			t.Errorf("own %s: %v, %v, want %v", c, own, err, want)
		}
	}
}

func TestTagsMoveAndAreListedByName(t *testing.T) {
	_, set := open(t, t.TempDir())
	for i, name := range []string{"b", "a", "b"} {
		if err := set.Tag(t.Context(), name, pinsettest.Root(i)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for tag, err := range set.Tags(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tag.Name)
	}
	if fmt.Sprint(got) != "[a b]" {
		t.Errorf("tags %v", got)
	}
	if c, err := set.Tagged(t.Context(), "b"); err != nil || !c.Equals(pinsettest.Root(2)) {
		t.Errorf("b is %s, %v", c, err)
	}
	if _, err := set.Tagged(t.Context(), "none"); !errors.Is(err, local.ErrNoTag) {
		t.Errorf("no tag: %v", err)
	}
	for _, name := range []string{"", "a\nb", string(make([]byte, 300)), "\xff"} {
		if err := set.Tag(t.Context(), name, pinsettest.Root(0)); err == nil {
			t.Errorf("tag name %q was accepted", name)
		}
	}
}

func TestRecordOfANewerVersionIsRefused(t *testing.T) {
	st, set := open(t, t.TempDir())
	c := pinsettest.Root(1)
	if err := st.SetRecords(t.Context(), map[string][]byte{"pin/" + c.KeyString(): []byte(`{"v":2,"how":"x"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Status(t.Context(), c); !errors.Is(err, local.ErrNewer) {
		t.Errorf("status: %v", err)
	}
	if _, err := set.Collect(t.Context(), local.CollectOptions{}); !errors.Is(err, local.ErrNewer) {
		t.Errorf("collect: %v", err)
	}
}

// A key that is no root and owner is told, and not taken for another pin.
func TestAPinWhoseKeyIsDamagedIsAnError(t *testing.T) {
	for _, rest := range []string{"/", "x", "x/volume"} {
		st, set := open(t, t.TempDir())
		key := "pin/" + pinsettest.Root(1).KeyString() + rest
		if err := st.SetRecords(t.Context(), map[string][]byte{key: []byte(`{"v":1,"created":"2026-01-01T00:00:00Z"}`)}); err != nil {
			t.Fatal(err)
		}
		if _, err := set.Status(t.Context(), pinsettest.Root(1)); err == nil {
			t.Errorf("%q was read", rest)
		}
	}
}

// A host reads what others made as it needs it: part of a pinned DAG was never here.
func TestCollectTakesWhatWasNeverHereForKeptElsewhereUnlessItWasMadeHere(t *testing.T) {
	for _, c := range []struct {
		name            string
		elsewhere, made bool
		withheld        bool
	}{
		{"others may have it", true, false, false},
		{"nobody else is known", false, false, true},
		{"it was made here", true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, set := open(t, t.TempDir())
			leaf := blockstest.Random(1, 1, 100)[0]
			below := blockstest.Random(2, 1, 100)[0]
			inner := node(t, below)
			top := node(t, leaf, inner)
			loose := dag(t, 3)
			put(t, st, append(loose, top, leaf, below)...)
			pin(t, set, top.Cid())
			if c.made {
				if err := set.MarkOwnBy(t.Context(), top.Cid(), 7); err != nil {
					t.Fatal(err)
				}
			}
			r, err := set.Collect(t.Context(), local.CollectOptions{Elsewhere: c.elsewhere})
			if err != nil || r.Withheld != c.withheld {
				t.Fatalf("%+v, %v, want withheld %v", r, err, c.withheld)
			}
			if c.withheld {
				if len(r.Missing) != 1 || !r.Missing[0].Equals(inner.Cid()) || len(r.Elsewhere) != 0 {
					t.Errorf("missing %v, elsewhere %v", r.Missing, r.Elsewhere)
				}
				wantWhole(t, st, append(loose, below))
				return
			}
			if len(r.Missing) != 0 || len(r.Elsewhere) != 1 || !r.Elsewhere[0].Equals(inner.Cid()) {
				t.Errorf("missing %v, elsewhere %v", r.Missing, r.Elsewhere)
			}
			wantWhole(t, st, []blocks.Block{top, leaf})
			wantGone(t, st, append(loose, below))
		})
	}
}

// losing is a store that knows that it had blocks.
type losing struct {
	local.Store
	lost cid.Cid
}

func (l losing) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if c == l.lost {
		return nil, snapshot.ErrDamaged
	}
	return l.Store.Get(ctx, c)
}

func TestCollectWithholdsWhatWasLostHereAlsoWhereOthersMayHaveIt(t *testing.T) {
	st, _ := open(t, t.TempDir())
	below := blockstest.Random(2, 1, 100)[0]
	inner := node(t, below)
	top := node(t, inner)
	put(t, st, top, below)
	set := local.New(losing{st, inner.Cid()}, st.BeginSweep)
	pin(t, set, top.Cid())
	r, err := set.Collect(t.Context(), local.CollectOptions{Elsewhere: true})
	if err != nil || !r.Withheld || len(r.Missing) != 1 || len(r.Elsewhere) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantWhole(t, st, []blocks.Block{top, below})
}
