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

func TestWhatComesAtOnceIsNotGotOneByOne(t *testing.T) {
	bs := dag(t)
	root := bs[len(bs)-1].Cid()
	for _, c := range []struct{ whole, left int }{{len(bs), 0}, {100, len(bs) - 100}, {0, len(bs)}} {
		b := &behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: len(bs)}
		st, err := hydrate.Fetch(t.Context(), b, root, hydrate.Options{Whole: func(_ context.Context, of cid.Cid) iter.Seq2[blocks.Block, error] {
			return func(yield func(blocks.Block, error) bool) {
				if of != root {
					t.Errorf("%s is asked for, not the root", of)
				}
				for i := range c.whole {
					if !yield(bs[len(bs)-1-i], nil) {
						return
					}
				}
				if c.whole < len(bs) {
					yield(nil, snapshot.ErrNotFetched)
				}
			}
		}})
		if err != nil || b.got != c.left || st.Blocks != uint64(len(bs)) || st.FetchedBlocks != uint64(len(bs)) {
			t.Errorf("%d at once: %d were got one by one, %+v, %v", c.whole, b.got, st, err)
		}
		here, err := b.Memory.Has(t.Context(), bs[0].Cid(), bs[len(bs)/2].Cid(), root)
		if err != nil || !here[0] || !here[1] || !here[2] {
			t.Errorf("%d at once: here are %v, %v", c.whole, here, err)
		}
	}
}

// bringing is behind that need not hand over what it gets.
type bringing struct {
	*behind
	brought, given map[cid.Cid]int
}

func (b *bringing) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for blk, err := range b.behind.GetMany(ctx, cs...) {
			turn <- struct{}{}
			if err == nil {
				b.given[blk.Cid()]++
			}
			<-turn
			if !yield(blk, err) {
				return
			}
		}
	}
}

func (b *bringing) Bring(ctx context.Context, cs ...cid.Cid) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for blk, err := range b.behind.GetMany(ctx, cs...) {
			size := 0
			if err == nil {
				size = len(blk.RawData())
				turn <- struct{}{}
				b.brought[blk.Cid()]++
				<-turn
			}
			if !yield(size, err) {
				return
			}
		}
	}
}

func TestLeavesAreBroughtWithoutBeingHandedOver(t *testing.T) {
	bs := dag(t)
	root := bs[len(bs)-1].Cid()
	for _, most := range []int{len(bs), len(bs) - 1} {
		b := &bringing{&behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: most}, map[cid.Cid]int{}, map[cid.Cid]int{}}
		st, err := hydrate.Fetch(t.Context(), b, root, hydrate.Options{})
		if most < len(bs) {
			if !errors.Is(err, snapshot.ErrNotFetched) {
				t.Errorf("without one block: %v", err)
			}
			continue
		}
		if err != nil || st.FetchedBlocks != uint64(len(bs)) || st.Blocks != st.FetchedBlocks {
			t.Fatalf("%+v, %v, want %d blocks", st, err, len(bs))
		}
		size := uint64(0)
		for _, blk := range bs {
			size += uint64(len(blk.RawData()))
			leaf := blk.Cid().Prefix().Codec == cid.Raw
			if leaf && (b.brought[blk.Cid()] != 1 || b.given[blk.Cid()] != 0) || !leaf && b.given[blk.Cid()] != 1 {
				t.Errorf("%s, a leaf: %v, brought %d times and given %d times", blk.Cid(), leaf, b.brought[blk.Cid()], b.given[blk.Cid()])
			}
		}
		if st.FetchedBytes != size {
			t.Errorf("%d bytes fetched, want %d", st.FetchedBytes, size)
		}
	}

	b := &bringing{&behind{Memory: blockstest.NewMemory(), far: far(t, bs), most: len(bs), forget: true}, map[cid.Cid]int{}, map[cid.Cid]int{}}
	if _, err := hydrate.Fetch(t.Context(), b, root, hydrate.Options{}); !errors.Is(err, hydrate.ErrNotKept) {
		t.Errorf("what was brought and not kept: %v", err)
	}
}
