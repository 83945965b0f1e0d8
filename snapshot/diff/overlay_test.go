package diff_test

import (
	"errors"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/diff"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

func TestAnOverlayWritesNothingBelowAndDropsContents(t *testing.T) {
	base := tt.NewMemory()
	stored := blockstest.Raw([]byte("stored"))
	if err := base.Put(ctx, stored); err != nil {
		t.Fatal(err)
	}
	o := diff.NewOverlay(base)
	buf := []byte("dropped")
	dropped, absent := blockstest.Raw(buf), blockstest.Raw([]byte("absent"))
	node := blockstest.Block(cid.DagCBOR, []byte{0xa0})
	if err := o.Put(ctx, dropped, node, stored); err != nil {
		t.Fatal(err)
	}
	has, err := o.Has(ctx, stored.Cid(), dropped.Cid(), node.Cid(), absent.Cid())
	if err != nil || !has[0] || !has[1] || !has[2] || has[3] {
		t.Errorf("has %v, %v", has, err)
	}
	for _, c := range []cid.Cid{stored.Cid(), node.Cid()} {
		if blk, err := o.Get(ctx, c); err != nil || blk.Cid() != c {
			t.Errorf("get %s: %v", c, err)
		}
	}
	for _, c := range []cid.Cid{dropped.Cid(), absent.Cid()} {
		if _, err := o.Get(ctx, c); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("get %s: %v", c, err)
		}
	}
	if has, err := base.Has(ctx, dropped.Cid(), node.Cid()); err != nil || has[0] || has[1] {
		t.Errorf("the store below has %v, %v", has, err)
	}
}

func TestASnapshotInAnOverlayDiffersFromOneBelow(t *testing.T) {
	base := tt.NewMemory()
	root := map[string]tt.Node{"f": tt.File("1"), "g": tt.File("same")}
	before := open(t, base, tt.Commit(t, base, tt.Dir(root)))
	o := diff.NewOverlay(base)
	root["f"] = tt.File("22")
	cs := changes(t, before, open(t, o, tt.Commit(t, o, tt.Dir(root))))
	if len(cs) != 1 || cs[0].Path != "f" || cs[0].Before.Size != 1 || cs[0].After.Size != 2 {
		t.Errorf("%+v", cs)
	}
}
