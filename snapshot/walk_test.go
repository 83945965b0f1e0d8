package snapshot_test

import (
	"context"
	"errors"
	"slices"
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
