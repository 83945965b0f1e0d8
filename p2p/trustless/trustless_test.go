package trustless_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"

	"github.com/volary/volary/p2p/gateway"
	"github.com/volary/volary/p2p/trustless"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/archive"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
)

// dag is a commit-like root over a node over leaves; the root is last.
func dag(t *testing.T) []blocks.Block {
	t.Helper()
	leaves := blockstest.Random(1, 5, 100_000)
	n := merkledag.NodeWithData([]byte{8, 1}) // a UnixFS directory
	for i, l := range leaves {
		if err := n.AddRawLink(string(rune('a'+i)), &format.Link{Cid: l.Cid(), Size: 100_000}); err != nil {
			t.Fatal(err)
		}
	}
	node := blockstest.Block(cid.DagProtobuf, n.RawData())
	root, err := dagcbor.Encode(struct {
		Tree dagcbor.Link `cbor:"tree"`
	}{dagcbor.Link{Cid: node.Cid()}})
	if err != nil {
		t.Fatal(err)
	}
	return append(leaves, node, root)
}

func serve(t *testing.T, bs ...blocks.Block) string {
	t.Helper()
	m := blockstest.NewMemory()
	if err := m.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	h, err := trustless.Handler(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

func TestBlocksAreGotThroughIt(t *testing.T) {
	bs := append(dag(t), blockstest.Random(2, 1, snapshot.MaxBlockSize)...)
	g, err := gateway.New(gateway.Options{URLs: []string{serve(t, bs...)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	for _, want := range bs {
		got, err := g.Get(t.Context(), want.Cid())
		if err != nil || !bytes.Equal(got.RawData(), want.RawData()) {
			t.Errorf("%s: %v", want.Cid(), err)
		}
	}
}

func TestACARHasTheDAG(t *testing.T) {
	bs := dag(t)
	root := bs[len(bs)-1].Cid()
	code, body := get(t, serve(t, bs...)+"/ipfs/"+root.String()+"?format=car&dag-scope=all")
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	m := blockstest.NewMemory()
	res, err := archive.Import(t.Context(), m, bytes.NewReader(body), nil)
	if err != nil || res.Blocks != uint64(len(bs)) || len(res.Roots) != 1 || res.Roots[0] != root {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestOnlyWhatCanBeCheckedIsServed(t *testing.T) {
	bs := dag(t)
	url := serve(t, bs...)
	for path, want := range map[string]int{
		"/ipfs/" + bs[5].Cid().String():                                              http.StatusNotAcceptable,
		"/ipfs/" + bs[5].Cid().String() + "/a":                                       http.StatusNotAcceptable,
		"/ipfs/" + blockstest.Raw([]byte("nobody's")).Cid().String() + "?format=raw": http.StatusNotFound,
		"/ipfs/nonsense?format=raw":                                                  http.StatusBadRequest,
		"/ipns/example.net?format=raw":                                               http.StatusNotFound,
		"/":                                                                          http.StatusNotFound,
	} {
		if code, body := get(t, url+path); code != want {
			t.Errorf("%s: %d, want %d: %.200s", path, code, want, body)
		}
	}
	res, err := http.Post(url+"/ipfs/"+bs[0].Cid().String(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", res.Status)
	}
}

func TestADAGIsGotThroughItWithOneRequest(t *testing.T) {
	bs := dag(t)
	root := bs[len(bs)-1].Cid()
	g, err := gateway.New(gateway.Options{URLs: []string{serve(t, append(bs, blockstest.Random(3, 2, 1000)...)...)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	came := map[string]bool{}
	for b, err := range g.DAG(t.Context(), root) {
		if err != nil {
			t.Fatal(err)
		}
		came[b.Cid().String()] = true
	}
	for _, b := range bs {
		if !came[b.Cid().String()] {
			t.Errorf("%s did not come", b.Cid())
		}
	}
	if len(came) != len(bs) {
		t.Errorf("%d blocks came, want %d", len(came), len(bs))
	}
}
