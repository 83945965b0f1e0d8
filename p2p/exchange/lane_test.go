package exchange_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// roads is where lanes lead: who serves them.
type roads struct {
	mu     sync.Mutex
	serve  map[peer.ID]func(peer.ID, net.Conn)
	opened atomic.Int64
	work   sync.WaitGroup
}

func newRoads(t testing.TB) *roads {
	r := &roads{serve: map[peer.ID]func(peer.ID, net.Conn){}}
	t.Cleanup(r.work.Wait)
	return r
}

// of are the lanes of a host.
func (r *roads) of(h host.Host) exchange.Lanes { return laneMaker{r, h.ID()} }

type laneMaker struct {
	roads *roads
	id    peer.ID
}

func (m laneMaker) ServeLanes(serve func(peer.ID, net.Conn)) {
	m.roads.mu.Lock()
	defer m.roads.mu.Unlock()
	m.roads.serve[m.id] = serve
}

func (m laneMaker) Lane(ctx context.Context, p peer.ID) (net.Conn, error) {
	m.roads.mu.Lock()
	serve := m.roads.serve[p]
	m.roads.mu.Unlock()
	if serve == nil {
		return nil, errors.New("no way")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	near, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, near.Close())
	}
	m.roads.opened.Add(1)
	m.roads.work.Go(func() {
		defer far.Close()
		serve(m.id, far)
	})
	return near, nil
}

// wantOpened waits until so many lanes were opened, which who wants blocks does not.
func (r *roads) wantOpened(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); r.opened.Load() < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d lanes were opened, not %d", r.opened.Load(), n)
		}
	}
}

// countedConn counts what is read.
type countedConn struct {
	net.Conn
	read *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

type counted struct {
	exchange.Lanes
	read *atomic.Int64
}

func (c counted) Lane(ctx context.Context, p peer.ID) (net.Conn, error) {
	conn, err := c.Lanes.Lane(ctx, p)
	if err != nil {
		return nil, err
	}
	return countedConn{conn, c.read}, nil
}

func TestMuchComesOverLanes(t *testing.T) {
	// Between many of them, some blocks that are as large as can be, and an empty one.
	bs := append(blockstest.Random(1, 60, 1<<20), blockstest.Random(2, 200, 3000)...)
	bs = append(bs, blockstest.Random(3, 1, 0)...)
	bs = append(bs, blockstest.Random(4, 10, snapshot.MaxBlockSize)...)
	r := newRoads(t)
	a, b := newHost(t), newHost(t)
	newExchange(t, b, memory(t, bs...), exchange.Options{Lanes: r.of(b)})
	var read atomic.Int64
	x := newExchange(t, a, memory(t), exchange.Options{Lanes: counted{r.of(a), &read}})
	connect(t, a, b)
	wantAll(t, x, bs)
	if read.Load() < 10<<20 {
		t.Errorf("%d lanes carried %d bytes of 80 MiB", r.opened.Load(), read.Load())
	}
	if n := x.Stats().Failures; n > 0 {
		t.Errorf("%d failures", n)
	}
}

func TestLittleComesOverStreams(t *testing.T) {
	bs := blockstest.Random(1, 3, 1<<20)
	r := newRoads(t)
	a, b := newHost(t), newHost(t)
	newExchange(t, b, memory(t, bs...), exchange.Options{Lanes: r.of(b)})
	wantAllThrough(t, r, a, b, bs)
	if n := r.opened.Load(); n > 0 {
		t.Errorf("%d lanes were opened for little", n)
	}
}

func wantAllThrough(t *testing.T, r *roads, a, b host.Host, bs []blocks.Block) {
	t.Helper()
	o := fast()
	o.Lanes = r.of(a)
	x := newExchange(t, a, memory(t), o)
	connect(t, a, b)
	wantAll(t, x, bs)
}

func TestALaneThatLiesCostsNothingButTime(t *testing.T) {
	bs := blockstest.Random(1, 24, 512<<10)
	for name, answer := range map[string]func(net.Conn){
		"other bytes":    func(c net.Conn) { c.Write(frame([]byte("other"))) },
		"nothing":        func(net.Conn) {},
		"only an end":    func(c net.Conn) { c.Write(bytes.Repeat([]byte{0xff}, 4)) },
		"half a header":  func(c net.Conn) { c.Write([]byte{0, 0}) },
		"half a block":   func(c net.Conn) { c.Write(frame(make([]byte, 1000))[:500]) },
		"a large block":  func(c net.Conn) { c.Write(binary.BigEndian.AppendUint32(nil, snapshot.MaxBlockSize+2)) },
		"no end":         func(c net.Conn) { c.Write(make([]byte, 4*100)) },
		"silence":        func(c net.Conn) { io.Copy(io.Discard, c) },
		"end after end":  func(c net.Conn) { c.Write(bytes.Repeat([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 50)) },
		"a byte at once": func(c net.Conn) { dripInto(c) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoads(t)
			a, b := newHost(t), serving(t, bs...) // whose streams are honest
			r.of(b).ServeLanes(func(_ peer.ID, c net.Conn) {
				c.Read(make([]byte, 4096))
				answer(c)
			})
			banned := name == "other bytes"
			if banned {
				connect(t, a, serving(t, bs...))
			}
			wantAllThrough(t, r, a, b, bs)
			if !banned {
				r.wantOpened(t, 1)
			}
		})
	}
}

func dripInto(c net.Conn) {
	for _, b := range frame(make([]byte, 1000)) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mutable is a lane of a server's that it hears nothing more of once it is muted.
type mutable struct {
	net.Conn
	to *mute
}

type mute struct {
	on           atomic.Bool
	asked, ended chan struct{} // have an element for each lane that something was asked over in vain, and ended
}

func (c mutable) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n == 0 || !c.to.on.Load() {
		return n, err
	}
	c.to.asked <- struct{}{}
	_, err = io.Copy(io.Discard, c.Conn)
	c.to.ended <- struct{}{}
	return 0, errors.Join(io.EOF, err)
}

// overMutable is an exchange that has lanes to a host that has bs, which can be muted.
func overMutable(t *testing.T, o exchange.Options, bs []blocks.Block) (*exchange.Exchange, *mute) {
	t.Helper()
	much := blockstest.Random(1, 100, 512<<10)
	r := newRoads(t)
	a, b := newHost(t), newHost(t)
	newExchange(t, b, memory(t, append(much, bs...)...), exchange.Options{Lanes: r.of(b)})
	m := &mute{asked: make(chan struct{}, 64), ended: make(chan struct{}, 64)}
	serve := r.serve[b.ID()]
	r.of(b).ServeLanes(func(p peer.ID, c net.Conn) { serve(p, mutable{c, m}) })
	o.Lanes = r.of(a)
	x := newExchange(t, a, memory(t), o)
	connect(t, a, b)
	wantAll(t, x, much)
	r.wantOpened(t, 2)
	return x, m
}

func TestWhatOneLaneDoesNotBringIsNotAskedForOverTheNext(t *testing.T) {
	bs := blockstest.Random(2, 20, 1000)
	o := fast()
	o.Stall = 2 * time.Second
	x, m := overMutable(t, o, bs)
	m.on.Store(true)
	for i := range bs { // one at a time, as all lanes can still be in use at first
		wantAll(t, x, bs[i:i+1])
	}
	if n := len(m.asked); n != 1 {
		t.Errorf("%d silent lanes were asked", n)
	}
}

func TestWhatNobodyWantsAnyMoreDoesNotHoldALane(t *testing.T) {
	bs := blockstest.Random(2, 20, 1000)
	x, m := overMutable(t, exchange.Options{Stall: time.Hour}, bs)
	m.on.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-m.asked:
			cancel()
		case <-ctx.Done():
		}
	}()
	for _, b := range bs {
		if _, err := x.Get(ctx, b.Cid()); err != nil {
			break
		}
	}
	if ctx.Err() == nil {
		t.Fatal("no lane was asked")
	}
	select {
	case <-m.ended:
	case <-time.After(15 * time.Second):
		t.Error("its lane goes on")
	}
}

func TestWhereNoLaneLeadsStreamsCarryAll(t *testing.T) {
	bs := blockstest.Random(1, 60, 512<<10)
	r := newRoads(t)
	a, b := newHost(t), serving(t, bs...)
	wantAllThrough(t, r, a, b, bs)
}

func TestRequestsOverALaneThatAreNoneAreRefused(t *testing.T) {
	want := blockstest.Random(1, 1, 3000)
	c := want[0].Cid().Bytes()
	request := append([]byte{1, byte(len(c))}, c...)
	right := append([]byte{byte(len(request))}, request...)
	r := newRoads(t)
	b := newHost(t)
	newExchange(t, b, memory(t, want...), exchange.Options{Lanes: r.of(b)})
	for name, says := range map[string][]byte{
		"nothing of it":       {0},
		"too long":            {0xff, 0xff, 0x7f},
		"longer than it says": append([]byte{byte(len(request) - 1)}, request...),
		"shorter":             append([]byte{byte(len(request) + 1)}, append(request, 1)...),
		"not one":             {3, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := laneMaker{r, peer.ID(name)}
			if got := overLane(t, stranger, b, says); len(got) > 0 {
				t.Errorf("answered %x", got)
			}
			if got := overLane(t, stranger, b, right); len(got) > 0 {
				t.Errorf("after that, %d bytes were answered", len(got))
			}
		})
	}
	twice := overLane(t, laneMaker{r, "honest"}, b, append(right[:len(right):len(right)], right...))
	once := append(frame(want[0].RawData()), 0xff, 0xff, 0xff, 0xff)
	if !bytes.Equal(twice, append(once, once...)) {
		t.Errorf("two requests were answered with %d bytes, of which each wants %d", len(twice), len(once))
	}
}

// overLane is all that is answered to what is said over a lane.
func overLane(t *testing.T, from exchange.Lanes, to host.Host, says []byte) []byte {
	t.Helper()
	c, err := from.Lane(t.Context(), to.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	c.Write(says)
	c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c) // a reset is no answer
	return got
}
