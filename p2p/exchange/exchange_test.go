package exchange_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// swarmKey is that of all hosts of these tests.
var swarmKey = pnet.PSK(bytes.Repeat([]byte{7}, 32))

func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(
		libp2p.PrivateNetwork(swarmKey), libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func connect(t testing.TB, a host.Host, bs ...host.Host) {
	t.Helper()
	for _, b := range bs {
		if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
}

func newExchange(t testing.TB, h host.Host, local snapshot.Blocks, o exchange.Options) *exchange.Exchange {
	t.Helper()
	x, err := exchange.New(t.Context(), h, local, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func memory(t testing.TB, bs ...blocks.Block) *blockstest.Memory {
	t.Helper()
	m := blockstest.NewMemory()
	if err := m.Put(context.Background(), bs...); err != nil {
		t.Fatal(err)
	}
	return m
}

// serving is a host with an exchange that has blocks.
func serving(t testing.TB, bs ...blocks.Block) host.Host {
	t.Helper()
	h := newHost(t)
	newExchange(t, h, memory(t, bs...), exchange.Options{})
	return h
}

func cids(bs []blocks.Block) []cid.Cid {
	cs := make([]cid.Cid, len(bs))
	for i, b := range bs {
		cs[i] = b.Cid()
	}
	return cs
}

// wantAll gets blocks together, and compares.
func wantAll(t testing.TB, from snapshot.ManyGetter, bs []blocks.Block) {
	t.Helper()
	i := 0
	for b, err := range from.GetMany(t.Context(), cids(bs)...) {
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

func TestABlockComesFromAPeer(t *testing.T) {
	bs := append(blockstest.Random(1, 300, 3000), blockstest.Random(2, 10, 1<<20)...)
	bs = append(bs, blockstest.Random(3, 1, 0)...)
	bs = append(bs, blockstest.Random(4, 1, snapshot.MaxBlockSize)...)
	a, b := newHost(t), serving(t, bs...)
	x := newExchange(t, a, memory(t), exchange.Options{})
	connect(t, a, b)
	wantAll(t, x, bs)
	for _, want := range bs[:5] {
		got, err := x.Get(t.Context(), want.Cid())
		if err != nil || !bytes.Equal(got.RawData(), want.RawData()) {
			t.Fatalf("get one: %v", err)
		}
	}
}

func TestAPeerThatWasThereBeforeIsAsked(t *testing.T) {
	bs := blockstest.Random(1, 3, 3000)
	a, b := newHost(t), serving(t, bs...)
	connect(t, a, b)
	wantAll(t, newExchange(t, a, memory(t), exchange.Options{}), bs)
}

func TestAPeerThatComesWhileABlockIsWaitedForIsAsked(t *testing.T) {
	bs := blockstest.Random(1, 1, 3000)
	a, empty, b := newHost(t), serving(t), serving(t, bs...)
	x := newExchange(t, a, memory(t), exchange.Options{})
	connect(t, a, empty)
	got := make(chan error, 1)
	go func() {
		_, err := x.Get(t.Context(), bs[0].Cid())
		got <- err
	}()
	connect(t, a, b)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestWhatNobodyHasIsNotFetchedAndSaysWhoWasAsked(t *testing.T) {
	a, b, c := newHost(t), serving(t), serving(t)
	x := newExchange(t, a, memory(t), exchange.Options{Timeout: 500 * time.Millisecond})
	missing := blockstest.Random(1, 1, 10)[0].Cid()
	_, err := x.Get(t.Context(), missing)
	if !errors.Is(err, snapshot.ErrNotFetched) || !strings.Contains(err.Error(), "no peer is connected") {
		t.Fatalf("alone: %v", err)
	}
	connect(t, a, b, c)
	// One is asked after the other: on a busy machine not both of them in so short a time.
	for over := time.Now().Add(20 * time.Second); ; {
		_, err = x.Get(t.Context(), missing)
		if !errors.Is(err, snapshot.ErrNotFetched) || !strings.Contains(err.Error(), missing.String()) {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), b.ID().String()) && strings.Contains(err.Error(), c.ID().String()) {
			break
		}
		if time.Now().After(over) {
			t.Fatalf("%q does not name both %s and %s", err, b.ID(), c.ID())
		}
	}
	for _, limit := range []time.Duration{300 * time.Millisecond, -time.Second} {
		ctx, done := context.WithTimeout(t.Context(), limit)
		defer done()
		if _, err := x.Get(ctx, missing); !errors.Is(err, snapshot.ErrNotFetched) {
			t.Fatalf("with a deadline in %s: %v", limit, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Get(ctx, missing); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

func TestWhatCannotBeCheckedIsNotAskedFor(t *testing.T) {
	a, b := newHost(t), serving(t)
	x := newExchange(t, a, memory(t), exchange.Options{})
	connect(t, a, b)
	short := blockstest.Random(1, 1, 10)[0].Cid().Hash()
	for name, c := range map[string]cid.Cid{
		"undefined":        cid.Undef,
		"an unknown hash":  cid.NewCidV1(cid.Raw, append([]byte{0x01, 0x20}, short[2:]...)),
		"a hash too short": cid.NewCidV1(cid.Raw, append([]byte{0x12, 0x08}, short[2:10]...)),
	} {
		if _, err := x.Get(t.Context(), c); err == nil || errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConcurrentCallersGetAll(t *testing.T) {
	bs := append(blockstest.Random(1, 200, 5000), blockstest.Random(2, 20, 300<<10)...)
	a, b, c := newHost(t), serving(t, bs[:150]...), serving(t, bs[100:]...)
	x := newExchange(t, a, memory(t), exchange.Options{Held: 1 << 20})
	connect(t, a, b, c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { wantAll(t, x, bs) })
		wg.Go(func() {
			for range x.GetMany(t.Context(), cids(bs)...) {
				break
			}
		})
	}
	wg.Wait()
}

func TestAPeerThatIsNotAllowedGetsNothing(t *testing.T) {
	bs := blockstest.Random(1, 1, 100)
	a, b := newHost(t), newHost(t)
	newExchange(t, b, memory(t, bs...), exchange.Options{Allow: func(p peer.ID) bool { return p != a.ID() }})
	x := newExchange(t, a, memory(t), exchange.Options{Timeout: 500 * time.Millisecond})
	connect(t, a, b)
	if _, err := x.Get(t.Context(), bs[0].Cid()); !errors.Is(err, snapshot.ErrNotFetched) {
		t.Fatal(err)
	}
}

func TestTheLayerIsBlocksAndKeepsWhatCame(t *testing.T) {
	t.Run("conformance", func(t *testing.T) {
		blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
			a := newHost(t)
			connect(t, a, serving(t))
			local := memory(t)
			return exchange.Through(local, newExchange(t, a, local, exchange.Options{Timeout: 50 * time.Millisecond}))
		})
	})
	bs := append(blockstest.Random(1, 300, 3000), blockstest.Random(2, 5, 1<<20)...)
	a, b := newHost(t), serving(t, bs...)
	local := memory(t, bs[:50]...)
	layer := exchange.Through(local, newExchange(t, a, local, exchange.Options{}))
	connect(t, a, b)
	for i, has := range mustHas(t, layer, bs) {
		if has != (i < 50) {
			t.Fatalf("has %d before: %v", i, has)
		}
	}
	wantAll(t, layer, append(bs, bs[60], bs[304], bs[0])) // some twice
	for i, has := range mustHas(t, local, bs) {
		if !has {
			t.Fatalf("%d was not kept", i)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	wantAll(t, layer, bs)
}

func mustHas(t *testing.T, b snapshot.Blocks, bs []blocks.Block) []bool {
	t.Helper()
	has, err := b.Has(t.Context(), cids(bs)...)
	if err != nil {
		t.Fatal(err)
	}
	return has
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
