package kept

import (
	"testing"

	"github.com/ipfs/go-cid"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/blockstest"
)

// nodes are blocks of a codec other than raw.
func nodes(t *testing.T, n, size int) []blocks.Block {
	t.Helper()
	bs := blockstest.Random(7, n, size)
	for i, b := range bs {
		node, err := blocks.NewBlockWithCid(b.RawData(), cid.NewCidV1(cid.DagCBOR, b.Cid().Hash()))
		if err != nil {
			t.Fatal(err)
		}
		bs[i] = node
	}
	return bs
}

func TestOnlySmallNodesAreRemembered(t *testing.T) {
	var r recent
	small, large, content := nodes(t, 1, 100)[0], nodes(t, 1, recentBlock+1)[0], blockstest.Random(1, 1, 100)[0]
	for _, b := range []blocks.Block{small, large, content} {
		r.remember(b)
	}
	if got := r.get(small.Cid()); got == nil || string(got.RawData()) != string(small.RawData()) {
		t.Errorf("a small node is %v", got)
	}
	if r.get(large.Cid()) != nil || r.get(content.Cid()) != nil {
		t.Error("a large node or content is remembered")
	}
}

func TestWhatIsUsedStaysAndMemoryIsBounded(t *testing.T) {
	var r recent
	all := nodes(t, 300, 100_000)
	for _, b := range all {
		r.remember(b)
		r.get(all[0].Cid())
	}
	kept := 0
	for _, b := range all {
		for _, m := range []map[cid.Cid]blocks.Block{r.now, r.old} {
			if m[b.Cid()] != nil {
				kept += len(b.RawData())
			}
		}
	}
	if most := 2 * (recentBytes + recentBlock); kept > most {
		t.Errorf("%d bytes are remembered, want at most %d", kept, most)
	}
	if r.get(all[0].Cid()) == nil || r.get(all[299].Cid()) == nil || r.get(all[1].Cid()) != nil {
		t.Error("what was used stays, and only that")
	}
}
