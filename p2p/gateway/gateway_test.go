package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/p2p/gateway"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// serve is a gateway that has some blocks, and its requests.
func serve(t *testing.T, bs ...blocks.Block) (string, *atomic.Int64) {
	t.Helper()
	has := map[string][]byte{}
	for _, b := range bs {
		has["/ipfs/"+b.Cid().String()] = b.RawData()
	}
	n := new(atomic.Int64)
	return handle(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		data, ok := has[r.URL.Path]
		if !ok || r.URL.Query().Get("format") != "raw" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.ipld.raw")
		w.Write(data)
	}), n
}

func handle(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func open(t *testing.T, urls ...string) *gateway.Gateways {
	t.Helper()
	return openFor(t, 0, urls...)
}

// openFor is for gateways that are silent: others are not to fail because the machine is busy.
func openFor(t *testing.T, timeout time.Duration, urls ...string) *gateway.Gateways {
	t.Helper()
	g, err := gateway.New(gateway.Options{URLs: urls, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func cids(bs []blocks.Block) []cid.Cid {
	cs := make([]cid.Cid, len(bs))
	for i, b := range bs {
		cs[i] = b.Cid()
	}
	return cs
}

func wantAll(t *testing.T, g *gateway.Gateways, bs []blocks.Block) {
	t.Helper()
	i := 0
	for b, err := range g.GetMany(t.Context(), cids(bs)...) {
		if err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		if b.Cid() != bs[i].Cid() || !bytes.Equal(b.RawData(), bs[i].RawData()) {
			t.Fatalf("block %d is another one", i)
		}
		i++
	}
	if i != len(bs) {
		t.Fatalf("%d of %d blocks came", i, len(bs))
	}
}

func some() []blocks.Block {
	bs := append(blockstest.Random(1, 50, 3000), blockstest.Random(2, 3, snapshot.MaxBlockSize)...)
	return append(bs, blockstest.Raw(nil))
}

func TestBlocksComeFromAGateway(t *testing.T) {
	url, _ := serve(t, some()...)
	wantAll(t, open(t, url+"/"), some())
}

func TestTheNextGatewayIsAskedForWhatOneLacks(t *testing.T) {
	bs := some()
	first, n := serve(t, bs[:20]...)
	second, _ := serve(t, bs[10:]...)
	wantAll(t, open(t, first, second), bs)
	if n.Load() != int64(len(bs)) {
		t.Fatalf("one that answers what it lacks was asked %d times for %d blocks", n.Load(), len(bs))
	}
}

func TestAGatewayThatLiesCostsNothingButTime(t *testing.T) {
	bs := some()
	honest, _ := serve(t, bs...)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	for name, lie := range map[string]http.HandlerFunc{
		"other bytes": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("other")) },
		"an error":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) },
		"silence": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-end:
			}
		},
		"bytes without an end": func(w http.ResponseWriter, _ *http.Request) {
			for data := make([]byte, 1<<20); ; {
				if _, err := w.Write(data); err != nil {
					return
				}
			}
		},
		"a length that is none": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999999999")
			w.Write([]byte("x"))
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) },
		"a broken answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3000")
			w.Write([]byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := time.Duration(0)
			if name == "silence" {
				timeout = 5 * time.Second
			}
			liar := handle(t, lie)
			wantAll(t, openFor(t, timeout, liar, honest), bs)
			_, err := openFor(t, timeout, liar).Get(t.Context(), bs[0].Cid())
			if !errors.Is(err, snapshot.ErrNotFetched) || errors.Is(err, snapshot.ErrDamaged) || !strings.Contains(err.Error(), liar) {
				t.Fatalf("alone: %v", err)
			}
		})
	}
}

func TestAGatewayThatIsDownRests(t *testing.T) {
	bs := some()
	gone := httptest.NewServer(nil)
	down := gone.URL
	gone.Close()
	var mu sync.Mutex
	var asked []time.Time
	failing := handle(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, time.Now())
		w.WriteHeader(http.StatusInternalServerError)
	})
	honest, _ := serve(t, bs...)
	g := open(t, down, failing, honest)
	for _, b := range bs {
		if _, err := g.Get(t.Context(), b.Cid()); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, least := 1, time.Second; i < len(asked); i, least = i+1, 2*least {
		if rest := asked[i].Sub(asked[i-1]); rest < least {
			t.Errorf("one that failed %d times was asked again after %s, want %s", i, rest, least)
		}
	}
}

func TestOneThatRestsIsAskedIfNobodyElseIsThere(t *testing.T) {
	bs := some()
	var failed atomic.Bool
	good, _ := serve(t, bs...)
	url := handle(t, func(w http.ResponseWriter, r *http.Request) {
		if failed.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, good+r.URL.String(), http.StatusFound)
	})
	g := open(t, url)
	if _, err := g.Get(t.Context(), bs[0].Cid()); !errors.Is(err, snapshot.ErrNotFetched) {
		t.Fatal(err)
	}
	wantAll(t, g, bs)
}

func TestACallerThatEndsIsNotTheGatewaysFault(t *testing.T) {
	bs := some()
	url, _ := serve(t, bs...)
	g := open(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Get(ctx, bs[0].Cid()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range g.GetMany(t.Context(), cids(bs)...) {
		break
	}
	wantAll(t, g, bs)
}

func TestAddressesThatAreNoneAreRefused(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:8080", "ftp://host", "http://", "http://host/?a=b", "http://host/#a"} {
		if _, err := gateway.New(gateway.Options{URLs: []string{url}}); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
	if _, err := open(t).Get(t.Context(), some()[0].Cid()); !errors.Is(err, snapshot.ErrNotFetched) {
		t.Fatal(err)
	}
}
