package exchange_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// liar is a host that answers each request as it likes, once it has read it.
func liar(t *testing.T, answer func(s network.Stream, end <-chan struct{})) host.Host {
	t.Helper()
	h := newHost(t)
	var mu sync.Mutex // held to begin and to end, as the host does not wait for who answers
	var work sync.WaitGroup
	over, end := false, make(chan struct{})
	h.SetStreamHandler(exchange.Protocol, func(s network.Stream) {
		mu.Lock()
		if over {
			mu.Unlock()
			s.Reset()
			return
		}
		work.Add(1)
		mu.Unlock()
		defer work.Done()
		defer s.Close()
		if _, err := io.ReadAll(s); err == nil {
			answer(s, end)
		}
	})
	t.Cleanup(func() {
		close(end)
		h.Close()
		mu.Lock()
		over = true
		mu.Unlock()
		work.Wait()
	})
	return h
}

func frame(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))+1), data...)
}

// liars are peers of which none ever sends what was asked for.
var liars = map[string]func(s network.Stream, end <-chan struct{}){
	"other bytes": func(s network.Stream, _ <-chan struct{}) { s.Write(frame([]byte("other"))) },
	"nothing":     func(s network.Stream, _ <-chan struct{}) {},
	"a reset":     func(s network.Stream, _ <-chan struct{}) { s.Reset() },
	"a block too large": func(s network.Stream, _ <-chan struct{}) {
		s.Write(binary.BigEndian.AppendUint32(nil, snapshot.MaxBlockSize+2))
	},
	"a size of 4 GiB":       func(s network.Stream, _ <-chan struct{}) { s.Write(bytes.Repeat([]byte{0xff}, 4)) },
	"half a header":         func(s network.Stream, _ <-chan struct{}) { s.Write([]byte{0, 0}) },
	"half a block":          func(s network.Stream, _ <-chan struct{}) { s.Write(frame(make([]byte, 1000))[:500]) },
	"bytes without an end":  endless,
	"silence":               silence,
	"a byte now and then":   drip,
	"that it has no blocks": func(s network.Stream, _ <-chan struct{}) { s.Write(make([]byte, 4*64)) },
}

func endless(s network.Stream, _ <-chan struct{}) {
	for data := frame(make([]byte, 1<<20)); ; {
		if _, err := s.Write(data); err != nil {
			return
		}
	}
}

func silence(_ network.Stream, end <-chan struct{}) { <-end }

func drip(s network.Stream, end <-chan struct{}) {
	for _, c := range frame(make([]byte, 1<<20)) {
		if _, err := s.Write([]byte{c}); err != nil {
			return
		}
		select {
		case <-end:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fast has all time limits short.
func fast() exchange.Options {
	return exchange.Options{Timeout: 20 * time.Second, Stall: 300 * time.Millisecond, Hedge: 100 * time.Millisecond}
}

func TestAPeerThatLiesCostsNothingButTime(t *testing.T) {
	bs := append(blockstest.Random(1, 30, 3000), blockstest.Random(2, 6, 1<<20)...)
	honest := serving(t, bs...)
	for name, lie := range liars {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHost(t)
			x := newExchange(t, a, memory(t), fast())
			connect(t, a, liar(t, lie), honest)
			wantAll(t, x, bs)
		})
	}
}

func TestALiarAloneIsNoSource(t *testing.T) {
	want := blockstest.Random(1, 1, 3000)[0]
	for name, lie := range liars {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHost(t)
			o := fast()
			o.Timeout = 4 * time.Second
			x := newExchange(t, a, memory(t), o)
			connect(t, a, liar(t, lie))
			if _, err := x.Get(t.Context(), want.Cid()); !errors.Is(err, snapshot.ErrNotFetched) {
				t.Fatal(err)
			}
			if name == "other bytes" && x.Stats().Wrong != 1 {
				t.Fatalf("who sent wrong bytes was asked for the same again: %+v", x.Stats())
			}
		})
	}
}

func TestAPeerThatDiesIsNotWaitedFor(t *testing.T) {
	bs := blockstest.Random(1, 64, 512<<10)
	a := newHost(t)
	x := newExchange(t, a, memory(t), exchange.Options{Hedge: 200 * time.Millisecond})
	hosts := []host.Host{serving(t, bs...), serving(t, bs...), serving(t, bs...)}
	connect(t, a, hosts...)
	i := 0
	for b, err := range x.GetMany(t.Context(), cids(bs)...) {
		if err != nil || b.Cid() != bs[i].Cid() {
			t.Fatalf("block %d: %v", i, err)
		}
		if i++; i == 5 {
			if err := hosts[1].Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if i != len(bs) {
		t.Fatalf("%d blocks", i)
	}
}

func TestRequestsThatAreNoneAreRefused(t *testing.T) {
	want := blockstest.Random(1, 1, 3000)
	b := serving(t, want...)
	right := append([]byte{1, 36}, want[0].Cid().Bytes()...)
	for name, request := range map[string][]byte{
		"empty":             {},
		"no CIDs":           {0},
		"too many":          {65},
		"a long number":     {0x81, 0x00},
		"an endless one":    bytes.Repeat([]byte{0xff}, 20),
		"a CID too long":    append([]byte{1, 0x81, 1}, make([]byte, 129)...),
		"a CID cut off":     append([]byte{1, 36}, want[0].Cid().Bytes()[:20]...),
		"no CID":            append([]byte{1, 36}, make([]byte, 36)...),
		"more than it says": append(right[:len(right):len(right)], 1),
	} {
		t.Run(name, func(t *testing.T) {
			a := newHost(t)
			connect(t, a, b)
			if got, err := answerTo(t, a, b, request); err == nil || len(got) != 0 {
				t.Fatalf("answered %x, %v", got, err)
			}
			if name == "empty" || name == "a CID cut off" {
				return // it may be the network's fault
			}
			if got, err := answerTo(t, a, b, right); err == nil || len(got) != 0 {
				t.Fatalf("after that, %d bytes were answered, %v", len(got), err)
			}
		})
	}
	a := newHost(t)
	connect(t, a, b)
	wantAll(t, newExchange(t, a, memory(t), exchange.Options{}), want)
}

// answerTo is all that a host answers to a request.
func answerTo(t *testing.T, a, b host.Host, request []byte) ([]byte, error) {
	t.Helper()
	s, err := a.NewStream(t.Context(), b.ID(), exchange.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(5 * time.Second))
	s.Write(request)
	s.CloseWrite()
	return io.ReadAll(s)
}

func TestManyWhoAskAndNeverReadDoNotKeepOthersFromAnswers(t *testing.T) {
	bs := blockstest.Random(1, 8, snapshot.MaxBlockSize)
	b := serving(t, bs...)
	request := []byte{byte(len(bs))}
	for _, blk := range bs {
		request = append(append(request, 36), blk.Cid().Bytes()...)
	}
	// So many that all answers that there can be are theirs.
	for range 9 {
		greedy := newHost(t)
		connect(t, greedy, b)
		for range 16 {
			s, err := greedy.NewStream(t.Context(), b.ID(), exchange.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			s.Write(request)
			s.CloseWrite()
		}
	}
	a := newHost(t)
	connect(t, a, b)
	ctx, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	x := newExchange(t, a, memory(t), exchange.Options{})
	for _, blk := range bs {
		if _, err := x.Get(ctx, blk.Cid()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneWhoAsksAndNeverReadsIsBounded(t *testing.T) {
	bs := blockstest.Random(1, 8, snapshot.MaxBlockSize)
	b := serving(t, bs...)
	greedy, a := newHost(t), newHost(t)
	connect(t, greedy, b)
	connect(t, a, b)
	var request []byte
	for _, blk := range bs {
		request = append(append(request, 36), blk.Cid().Bytes()...)
	}
	request = append([]byte{byte(len(bs))}, request...)
	refused := false
	for range 40 {
		s, err := greedy.NewStream(t.Context(), b.ID(), exchange.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		s.Write(request)
		s.CloseWrite()
		s.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := s.Read(make([]byte, 1)); errors.Is(err, network.ErrReset) {
			refused = true
		}
	}
	if !refused {
		t.Fatal("forty answers were begun at a time")
	}
	wantAll(t, newExchange(t, a, memory(t), exchange.Options{}), bs)
}

func TestCloseEndsWhatWaits(t *testing.T) {
	a := newHost(t)
	x, err := exchange.New(t.Context(), a, memory(t), exchange.Options{})
	if err != nil {
		t.Fatal(err)
	}
	connect(t, a, liar(t, silence), serving(t))
	got := make(chan error, 1)
	go func() {
		_, err := x.Get(t.Context(), blockstest.Random(1, 1, 10)[0].Cid())
		got <- err
	}()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, exchange.ErrClosed) {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatalf("closed again: %v", err)
	}
}
