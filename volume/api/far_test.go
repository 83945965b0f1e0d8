package api

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

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

func TestWhatIsBroughtIsKeptAndNotHandedOver(t *testing.T) {
	bs := blockstest.Random(1, 40, 1<<20)
	lacking := blockstest.Random(2, 1, 10)[0]
	mem, far := newMemoryHost(), &elsewhere{Memory: blockstest.NewMemory()}
	if err := far.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	h := mem.host()
	h.Blocks = exchange.Through(mem.Memory, far)
	client := dial(t, serve(t, h, ServerOptions{}))
	asked := append(cidsOf(bs[:20]), lacking.Cid())
	asked = append(asked, cidsOf(bs[20:])...)
	i := 0
	for size, err := range client.Blocks.(remoteBlocks).Bring(t.Context(), asked...) {
		switch {
		case i == 20 && !errors.Is(err, snapshot.ErrNotFound):
			t.Errorf("what nobody has: %v", err)
		case i != 20 && (err != nil || size != 1<<20):
			t.Errorf("block %d: %d, %v", i, size, err)
		}
		i++
	}
	if i != len(asked) {
		t.Fatalf("%d answers to %d questions", i, len(asked))
	}
	has, err := mem.Has(t.Context(), asked...)
	for i, has := range has {
		if err != nil || has == (i == 20) {
			t.Errorf("block %d: here %v, %v", i, has, err)
		}
	}
}

// gradual has blocks one by one, when its test gives them.
type gradual struct {
	*blockstest.Memory
	next <-chan blocks.Block
}

func (e gradual) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for range cs {
			select {
			case b := <-e.next:
				if !yield(b, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Else a daemon would end only when its grace period is over, as long as somebody has much brought.
func TestAServerThatStopsDoesNotWaitForAllThatIsBrought(t *testing.T) {
	bs := blockstest.Random(1, 100, 1000)
	next := make(chan blocks.Block)
	h := newMemoryHost().host()
	h.Blocks = gradual{blockstest.NewMemory(), next}
	d := serve(t, h, ServerOptions{Grace: time.Hour})
	client := dial(t, d)
	ended := make(chan int)
	go func() {
		n := 0
		for _, err := range client.Blocks.(remoteBlocks).Bring(context.Background(), cidsOf(bs)...) {
			if err != nil {
				break
			}
			n++
		}
		ended <- n
	}()
	next <- bs[0]
	go d.stop()
	<-d.server.stopping
	for {
		select {
		case next <- bs[1]:
		case n := <-ended:
			if n == len(bs) {
				t.Error("the server went on to the end")
			}
			return
		}
	}
}

// older is a server like another one, which does not know a path.
func older(t *testing.T, d *daemon, unknown string) *daemon {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.path)
	}
	proxy := &httputil.ReverseProxy{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", "x"
		if r.In.URL.Path == unknown {
			r.Out.URL.Path = prefix + "/nothing"
		}
	}}
	s := &http.Server{Handler: proxy}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return &daemon{path: path}
}

// A daemon of a version that does not know how to bring is asked to give.
func TestAnOlderDaemonGivesWhatItIsToBring(t *testing.T) {
	bs := blockstest.Random(1, 5, 100)
	mem := newMemoryHost()
	if err := mem.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	client := dial(t, older(t, serve(t, mem.host(), ServerOptions{}), prefix+"/blocks/bring"))
	i := 0
	for size, err := range client.Blocks.(remoteBlocks).Bring(t.Context(), cidsOf(bs)...) {
		if err != nil || size != 100 {
			t.Errorf("block %d: %d, %v", i, size, err)
		}
		i++
	}
	if i != len(bs) {
		t.Errorf("%d answers", i)
	}
}
