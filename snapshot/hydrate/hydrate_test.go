package hydrate_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/hydrate"
)

// behind is memory with more memory behind it, some of which it may refuse to bring.
type behind struct {
	*blockstest.Memory
	far    *blockstest.Memory
	most   int // blocks that it brings
	got    int
	forget bool
}

func (b *behind) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	blk, err := b.Memory.Get(ctx, c)
	if !errors.Is(err, snapshot.ErrNotFound) {
		return blk, err
	}
	if b.got >= b.most {
		return nil, fmt.Errorf("%s: %w", c, snapshot.ErrNotFetched)
	}
	b.got++
	if blk, err = b.far.Get(ctx, c); err == nil && !b.forget {
		err = b.Put(ctx, blk)
	}
	return blk, err
}

// one at a time, so that got needs no lock.
var turn = make(chan struct{}, 1)

func (b *behind) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for _, c := range cs {
			turn <- struct{}{}
			blk, err := b.Get(ctx, c)
			<-turn
			if !yield(blk, err) {
				return
			}
		}
	}
}

// dag is a tree of nodes over leaves, some of them twice; the root is last.
func dag(t *testing.T) []blocks.Block {
	t.Helper()
	var all []blocks.Block
	root := merkledag.NodeWithData([]byte("root"))
	leaves := blockstest.Random(1, 700, 100)
	all = append(all, leaves...)
	for i := range 10 {
		n := merkledag.NodeWithData(fmt.Appendf(nil, "node %d", i))
		for _, l := range leaves[i*70 : i*70+70] {
			link(t, n, l)
		}
		link(t, n, leaves[0])
		all = append(all, blockstest.Block(cid.DagProtobuf, n.RawData()))
		link(t, root, all[len(all)-1])
	}
	return append(all, blockstest.Block(cid.DagProtobuf, root.RawData()))
}

func link(t *testing.T, n *merkledag.ProtoNode, b blocks.Block) {
	t.Helper()
	if err := n.AddRawLink("", &format.Link{Cid: b.Cid(), Size: uint64(len(b.RawData()))}); err != nil {
		t.Fatal(err)
	}
}

func far(t *testing.T, bs []blocks.Block) *blockstest.Memory {
	t.Helper()
	m := blockstest.NewMemory()
	if err := m.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAllBlocksAreHereAfterwards(t *testing.T) {
	bs := dag(t)
	b := &behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: 1 << 20}
	last := hydrate.Stats{}
	s, err := hydrate.Fetch(t.Context(), b, bs[len(bs)-1].Cid(), hydrate.Options{Progress: func(s hydrate.Stats) { last = s }})
	if err != nil {
		t.Fatal(err)
	}
	if s.Blocks != uint64(len(bs)) || s.FetchedBlocks != s.Blocks || s.FetchedBytes != s.Bytes || s != last {
		t.Fatalf("%+v of %d blocks, and %+v was told", s, len(bs), last)
	}
	for _, blk := range bs {
		if has, err := b.Has(t.Context(), blk.Cid()); err != nil || !has[0] {
			t.Fatalf("%s is not here: %v", blk.Cid(), err)
		}
	}
}

func TestWhatWasInterruptedGoesOn(t *testing.T) {
	bs := dag(t)
	root := bs[len(bs)-1].Cid()
	b := &behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: 300}
	s, err := hydrate.Fetch(t.Context(), b, root, hydrate.Options{})
	if !errors.Is(err, snapshot.ErrNotFetched) {
		t.Fatal(err)
	}
	if s.FetchedBlocks == 0 {
		t.Fatal("nothing was fetched before it was interrupted")
	}
	b.most = len(bs) // each once in all
	s, err = hydrate.Fetch(t.Context(), b, root, hydrate.Options{})
	if err != nil || s.Blocks != uint64(len(bs)) || s.FetchedBlocks != uint64(len(bs)-300) {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = hydrate.Fetch(t.Context(), b, root, hydrate.Options{}); err != nil || s.FetchedBlocks != 0 {
		t.Fatalf("once more: %+v, %v", s, err)
	}
}

func TestWhatIsNotKeptIsAnError(t *testing.T) {
	bs := dag(t)
	b := &behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: 1 << 20, forget: true}
	if _, err := hydrate.Fetch(t.Context(), b, bs[len(bs)-1].Cid(), hydrate.Options{}); !errors.Is(err, hydrate.ErrNotKept) {
		t.Fatal(err)
	}
}

func TestACancelledOneEnds(t *testing.T) {
	bs := dag(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := &behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: 1 << 20}
	_, err := hydrate.Fetch(ctx, b, bs[len(bs)-1].Cid(), hydrate.Options{Progress: func(hydrate.Stats) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
