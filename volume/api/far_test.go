package api

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// elsewhere counts how often it is asked, and for how many blocks.
type elsewhere struct {
	*blockstest.Memory
	calls, asked atomic.Int64
}

func (e *elsewhere) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	if len(cs) > 0 {
		e.calls.Add(1)
		e.asked.Add(int64(len(cs)))
	}
	return snapshot.GetMany(ctx, e.Memory, cs...)
}

func TestWhatIsElsewhereIsGotTogether(t *testing.T) {
	bs := blockstest.Random(1, 100, 1000)
	mem, far := newMemoryHost(), &elsewhere{Memory: blockstest.NewMemory()}
	if err := errors.Join(far.Put(t.Context(), bs...), mem.Put(t.Context(), bs[:10]...)); err != nil {
		t.Fatal(err)
	}
	h := mem.host()
	h.Blocks = exchange.Through(mem.Memory, far)
	client := dial(t, serve(t, h, ServerOptions{}))

	local := snapshot.Local(client.Blocks)
	i := 0
	for _, err := range snapshot.GetMany(t.Context(), local, cidsOf(bs)...) {
		if here := i < 10; here != (err == nil) || !here && !errors.Is(err, snapshot.ErrNotFound) {
			t.Fatalf("block %d of what is here: %v", i, err)
		}
		i++
	}
	if _, err := local.Get(t.Context(), bs[50].Cid()); !errors.Is(err, snapshot.ErrNotFound) {
		t.Fatalf("one that is not here: %v", err)
	}
	if n := far.calls.Load(); n != 0 {
		t.Fatalf("it was asked %d times for what was wanted from here", n)
	}

	i = 0
	for b, err := range snapshot.GetMany(t.Context(), client.Blocks, cidsOf(bs)...) {
		if err != nil || b.Cid() != bs[i].Cid() {
			t.Fatalf("block %d: %v", i, err)
		}
		i++
	}
	if i != len(bs) || far.calls.Load() > 3 || far.asked.Load() != 90 {
		t.Fatalf("%d blocks; asked %d times for %d", i, far.calls.Load(), far.asked.Load())
	}
}
