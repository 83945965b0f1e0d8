package blockstest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

func testMany(t *testing.T, b snapshot.Blocks) {
	bs := slices.Concat(Random(13, 300, 500), Random(14, 3, 1<<20), Random(15, 1, 0), Random(16, 20, 70<<10))
	put(t, b, bs...)
	var cs []cid.Cid
	want := map[cid.Cid][]byte{}
	for i, k := range bs {
		want[k.Cid()] = k.RawData()
		cs = append(cs, k.Cid())
		if i%50 == 0 {
			cs = append(cs, Raw(fmt.Appendf(nil, "nobody put %d", i)).Cid(), cid.Undef, bs[0].Cid())
		}
	}
	i := 0
	for got, err := range snapshot.GetMany(t.Context(), b, cs...) {
		data, there := want[cs[i]]
		switch {
		case !there && err == nil:
			t.Fatalf("got %s for %s, which nobody put", got.Cid(), cs[i])
		case there && err != nil:
			t.Fatalf("get %s after a missing one: %v", cs[i], err)
		case there && (got.Cid() != cs[i] || !bytes.Equal(got.RawData(), data)):
			t.Fatalf("asked for %s, got %s", cs[i], got.Cid())
		}
		i++
	}
	if i != len(cs) {
		t.Fatalf("%d answers to %d questions", i, len(cs))
	}
	for range snapshot.GetMany(t.Context(), b, cs...) {
		break
	}
}
