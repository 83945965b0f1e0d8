package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	car "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"

	"github.com/volary/volary/p2p/gateway"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// tree is a root over some leaves, one of them twice, root first.
func tree(t *testing.T, leaves ...blocks.Block) []blocks.Block {
	t.Helper()
	n := merkledag.NodeWithData([]byte("root"))
	for _, l := range append(leaves, leaves[0]) {
		if err := n.AddRawLink("", &format.Link{Cid: l.Cid(), Size: uint64(len(l.RawData()))}); err != nil {
			t.Fatal(err)
		}
	}
	return append([]blocks.Block{blockstest.Block(cid.DagProtobuf, n.RawData())}, leaves...)
}

// carOf is an archive that has these, whatever their bytes are.
func carOf(t *testing.T, bs ...blocks.Block) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := storage.NewWritable(struct{ *bytes.Buffer }{&out}, []cid.Cid{bs[0].Cid()}, car.WriteAsCarV1(true), car.UseWholeCIDs(true), car.AllowDuplicatePuts(true))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bs {
		if err := w.Put(t.Context(), b.Cid().KeyString(), b.RawData()); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// sends is a gateway that answers every request with some bytes, and then, if it stalls, waits.
func sends(t *testing.T, data []byte, stall bool) string {
	t.Helper()
	return handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(data)
		if stall {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
}

func gotDAG(ctx context.Context, g *gateway.Gateways, root cid.Cid) (got []blocks.Block, _ error) {
	for b, err := range g.DAG(ctx, root) {
		if err != nil {
			return got, err
		}
		got = append(got, b)
	}
	return got, nil
}

func TestADAGComesWithOneRequest(t *testing.T) {
	bs := tree(t, blockstest.Random(1, 20, 5000)...)
	got, err := gotDAG(t.Context(), open(t, sends(t, carOf(t, bs...), false)), bs[0].Cid())
	if err != nil || !slices.EqualFunc(got, bs, func(a, b blocks.Block) bool { return a.Cid() == b.Cid() && bytes.Equal(a.RawData(), b.RawData()) }) {
		t.Errorf("%d blocks came of %d, %v", len(got), len(bs), err)
	}
}

func TestWhatAGatewaySendsBesideADAGEndsIt(t *testing.T) {
	leaves := blockstest.Random(2, 4, 3000)
	bs := tree(t, leaves...)
	other := blockstest.Random(3, 1, 100)[0]
	wrong, err := blocks.NewBlockWithCid([]byte("other bytes"), leaves[2].Cid())
	if err != nil {
		t.Fatal(err)
	}
	whole := carOf(t, bs...)
	for what, c := range map[string]struct {
		url  string
		good int
		says string
	}{
		"a block of something else":  {sends(t, carOf(t, bs[0], bs[1], other), false), 2, "was not asked for"},
		"a block again":              {sends(t, carOf(t, bs[0], bs[1], bs[1]), false), 2, "was not asked for"},
		"a leaf first":               {sends(t, carOf(t, bs[1], bs[0]), false), 0, "was not asked for"},
		"wrong bytes":                {sends(t, carOf(t, bs[0], bs[1], wrong), false), 2, snapshot.ErrDamaged.Error()},
		"not all":                    {sends(t, carOf(t, bs[:3]...), false), 3, "did not send all"},
		"half a block":               {sends(t, whole[:len(whole)-10], false), 4, ""},
		"nothing more":               {sends(t, carOf(t, bs[:3]...), true), 3, "stopped sending"},
		"no CAR":                     {sends(t, []byte("<html>"), false), 0, "no CAR"},
		"a block of a gigabyte":      {sends(t, append(carOf(t, bs[0]), 0xff, 0xff, 0xff, 0xff, 3), false), 1, ""},
		"a header of many megabytes": {sends(t, bytes.Repeat([]byte{0xff, 0xff, 0xff, 3}, 1<<20), false), 0, "no CAR"},
		"that it has nothing":        {handle(t, http.NotFound), 0, "not there"},
	} {
		got, err := gotDAG(t.Context(), open(t, c.url), bs[0].Cid())
		if !errors.Is(err, snapshot.ErrNotFetched) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
		if len(got) != c.good {
			t.Errorf("%s: %d good blocks came, want %d", what, len(got), c.good)
		}
		for i, b := range got {
			if b.Cid() != bs[i].Cid() || snapshot.CheckHash(b) != nil {
				t.Errorf("%s: block %d is not the one asked for", what, i)
			}
		}
	}
}

func TestADAGComesFromAnotherGatewayWhereOneHasNotGotIt(t *testing.T) {
	bs := tree(t, blockstest.Random(4, 3, 100)...)
	g := open(t, handle(t, http.NotFound), sends(t, carOf(t, bs...), false))
	if got, err := gotDAG(t.Context(), g, bs[0].Cid()); err != nil || len(got) != len(bs) {
		t.Errorf("%d blocks came of %d, %v", len(got), len(bs), err)
	}
}
