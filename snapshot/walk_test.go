package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
)

// family is a DAG: root links to left, right and left again, both link to leaf.
func family(t *testing.T) (b snapshot.Blocks, root, left, right, leaf blocks.Block) {
	t.Helper()
	mem := blockstest.NewMemory()
	put := func(v any) blocks.Block {
		blk := node(t, v)
		if err := mem.Put(context.Background(), blk); err != nil {
			t.Fatal(err)
		}
		return blk
	}
	link := func(blk blocks.Block) dagcbor.Link { return dagcbor.Link{Cid: blk.Cid()} }
	leaf = put("leaf")
	left, right = put([]any{"left", link(leaf)}), put([]any{"right", link(leaf)})
	root = put([]dagcbor.Link{link(left), link(right), link(left)})
	return mem, root, left, right, leaf
}

func TestWalkDAGVisitsEachBlockOnceInAFixedOrder(t *testing.T) {
	b, root, left, right, leaf := family(t)
	want := []cid.Cid{root.Cid(), left.Cid(), leaf.Cid(), right.Cid()}
	for range 20 {
		var got []cid.Cid
		err := snapshot.WalkDAG(context.Background(), b, []cid.Cid{root.Cid()}, func(c cid.Cid, _ blocks.Block, err error) error {
			got = append(got, c)
			return err
		})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("visited %v, %v; want %v", got, err, want)
		}
	}
}

// together prefers to be asked for many blocks at once.
type together struct {
	snapshot.Blocks
	requests atomic.Int64
}

func (s *together) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	s.requests.Add(1)
	return s.Blocks.Get(ctx, c)
}

func (s *together) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	s.requests.Add(1)
	return snapshot.GetMany(ctx, s.Blocks, cs...)
}

// Every second child of the root is a grandchild as well, so that what was read ahead is visited in another
// order.
func TestWalkDAGIsTheSameWhenBlocksAreGotTogether(t *testing.T) {
	mem := blockstest.NewMemory()
	put := func(v any) dagcbor.Link {
		blk := node(t, v)
		if err := mem.Put(context.Background(), blk); err != nil {
			t.Fatal(err)
		}
		return dagcbor.Link{Cid: blk.Cid()}
	}
	var leaves, children []dagcbor.Link
	for i := range 500 {
		leaves = append(leaves, put(fmt.Sprint("leaf", i)))
	}
	for i := range 250 {
		children = append(children, leaves[2*i], put([]dagcbor.Link{leaves[499-i], leaves[i], leaves[2*i+1]}))
	}
	root := put(children)
	lost := without{mem, leaves[77].Cid}
	visit := func(b snapshot.Blocks) (got []string) {
		err := snapshot.WalkDAG(context.Background(), b, []cid.Cid{root.Cid}, func(c cid.Cid, _ blocks.Block, err error) error {
			got = append(got, fmt.Sprint(c, err))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := visit(lost)
	many := &together{Blocks: lost}
	if got := visit(many); !slices.Equal(got, want) || len(got) != 751 {
		t.Errorf("%d blocks visited, want %d in the same order", len(got), len(want))
	}
	if n := many.requests.Load(); n > 200 {
		t.Errorf("%d requests for 751 blocks", n)
	}
}

type without struct {
	snapshot.Blocks
	lost cid.Cid
}

func (w without) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if c == w.lost {
		return nil, snapshot.ErrNotFound
	}
	return w.Blocks.Get(ctx, c)
}

func TestWalkDAGGoesOnPastAMissingBlock(t *testing.T) {
	b, root, left, right, leaf := family(t)
	seen := map[cid.Cid]error{}
	err := snapshot.WalkDAG(context.Background(), without{b, left.Cid()}, []cid.Cid{root.Cid()}, func(c cid.Cid, _ blocks.Block, err error) error {
		seen[c] = err
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 || !errors.Is(seen[left.Cid()], snapshot.ErrNotFound) || seen[right.Cid()] != nil || seen[leaf.Cid()] != nil {
		t.Errorf("visited %v", seen)
	}
}

func TestWalkDAGEndsWithTheVisitorsError(t *testing.T) {
	b, root, _, _, _ := family(t)
	stop := errors.New("stop")
	err := snapshot.WalkDAG(context.Background(), b, []cid.Cid{root.Cid()}, func(cid.Cid, blocks.Block, error) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("%v, want the visitor's error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = snapshot.WalkDAG(ctx, b, []cid.Cid{root.Cid()}, func(cid.Cid, blocks.Block, error) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}
