package lease

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/namespace"
)

// wait is how long a test waits for what must come.
const wait = time.Minute

// node is a host in a network, on loopback.
type node struct {
	*Leases
	t     testing.TB
	p2p   host.Host
	heard chan peer.ID
	ticks chan time.Time
}

func listening(t testing.TB) host.Host {
	t.Helper()
	h := must(libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics()))(t)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

func newNode(t testing.TB, name string, n *namespace.Namespace) *node {
	t.Helper()
	h := &node{t: t, p2p: listening(t), heard: make(chan peer.ID, 1024), ticks: make(chan time.Time)}
	h.Leases = must(New(Options{
		Self: h.p2p.ID(), Namespace: n, Host: name, ticks: h.ticks, heard: func(p peer.ID) { h.heard <- p },
	}))(t)
	leave := must(h.Join(context.Background(), h.p2p))(t)
	t.Cleanup(func() { check(t, leave()) })
	return h
}

func (h *node) connect(to host.Host) {
	h.t.Helper()
	check(h.t, h.p2p.Connect(h.t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}))
	for _, c := range to.Network().ConnsToPeer(h.p2p.ID()) {
		s := must(to.NewStream(network.WithNoDial(h.t.Context(), "identify"), c.RemotePeer(), Protocol))(h.t) // waits for it
		check(h.t, s.Reset())
	}
}

// hears waits until a host has heard another as often.
func (h *node) hears(from *node, times int) {
	h.t.Helper()
	over := time.After(wait)
	for times > 0 {
		select {
		case p := <-h.heard:
			if p == from.p2p.ID() {
				times--
			}
		case <-over:
			h.t.Fatalf("%s does not hear %s", h.o.Host, from.o.Host)
		}
	}
}

func TestConnectedHostsAreAskedAndTold(t *testing.T) {
	a, b, c := newNode(t, "a", ours(t)), newNode(t, "b", ours(t)), newNode(t, "c", ours(t))
	a.connect(b.p2p)
	a.connect(c.p2p)
	b.connect(c.p2p)
	db := volume(t, "db")
	check(t, a.Acquire(t.Context(), db, false))
	var held *HeldError
	if err := b.Acquire(t.Context(), db, false); !errors.As(err, &held) || held.Holder.Host != "a" || held.Holder.Peer != a.p2p.ID() {
		t.Errorf("%v, want that a has it", err)
	}
	check(t, b.Acquire(t.Context(), db, true))
	if h, _ := a.Holder(db); h.Host != "b" {
		t.Errorf("a takes %+v for the holder", h)
	}
	b.Release(db)
	b.ask(t.Context()) // returns when all were told
	check(t, c.Acquire(t.Context(), db, false))
}

func TestALeaseCanBeTakenBeforeItIsHeardThatItWasGivenUp(t *testing.T) {
	a, b := newNode(t, "a", ours(t)), newNode(t, "b", ours(t))
	a.connect(b.p2p)
	db := volume(t, "db")
	check(t, a.Acquire(t.Context(), db, false))
	a.ask(t.Context())
	if h, _ := b.Holder(db); h.Host != "a" {
		t.Errorf("b takes %+v for the holder", h)
	}
	a.table.release(db) // and nobody is told
	check(t, b.Acquire(t.Context(), db, false))
}

func TestAHostThatConnectsHearsWhoWrites(t *testing.T) {
	a := newNode(t, "a", ours(t))
	db := volume(t, "db")
	check(t, a.Acquire(t.Context(), db, false))
	reader := newNode(t, "reader", must(namespace.OpenReadOnly(ours(t).PublicKey()))(t))
	reader.connect(a.p2p)
	reader.hears(a, 1)
	if h, _ := reader.Holder(db); h.Host != "a" {
		t.Errorf("it takes %+v for the holder", h)
	}
}

func TestLeasesAreRenewed(t *testing.T) {
	a, b := newNode(t, "a", ours(t)), newNode(t, "b", ours(t))
	a.connect(b.p2p)
	db := volume(t, "db")
	check(t, a.Acquire(t.Context(), db, false))
	a.ask(t.Context())
	first, _ := b.Holder(db)
	for {
		select {
		case <-b.heard:
			continue
		default:
		}
		break
	}
	a.ticks <- time.Now()
	// It may have taken over what it heard before, and be about to say so.
	for next := first; !next.Until.After(first.Until); next, _ = b.Holder(db) {
		b.hears(a, 1)
	}
}

func TestOfTwoThatAskAtOnceInANetworkOneGetsIt(t *testing.T) {
	a, b := newNode(t, "a", ours(t)), newNode(t, "b", ours(t))
	a.connect(b.p2p)
	for _, name := range []string{"one", "two", "three", "four", "five"} {
		var both sync.WaitGroup
		var errs [2]error
		for i, h := range []*node{a, b} {
			both.Go(func() { errs[i] = h.Acquire(t.Context(), volume(t, name), false) })
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("the two got %v and %v", errs[0], errs[1])
		}
	}
}

func TestAHostThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	a, b := newNode(t, "a", ours(t)), newNode(t, "b", ours(t))
	silent := listening(t)
	silent.SetStreamHandler(Protocol, func(s network.Stream) { io.Copy(io.Discard, s) })
	a.connect(b.p2p)
	check(t, a.p2p.Connect(t.Context(), peer.AddrInfo{ID: silent.ID(), Addrs: silent.Addrs()}))
	began := time.Now()
	check(t, a.Acquire(t.Context(), volume(t, "db"), false))
	if took := time.Since(began); took > askTime+wait {
		t.Errorf("it took %s", took)
	}
	if err := b.Acquire(t.Context(), volume(t, "db"), false); err == nil {
		t.Error("the other one was not told")
	}
}

func TestWhatIsTooLargeIsNotRead(t *testing.T) {
	a := newNode(t, "a", ours(t))
	stranger := listening(t)
	check(t, stranger.Connect(t.Context(), peer.AddrInfo{ID: a.p2p.ID(), Addrs: a.p2p.Addrs()}))
	s := must(stranger.NewStream(t.Context(), a.p2p.ID(), Protocol))(t)
	must(s.Write(binary.BigEndian.AppendUint32(nil, MaxMessage+1)))(t)
	check(t, s.SetReadDeadline(time.Now().Add(wait)))
	if n, err := s.Read(make([]byte, 1)); err == nil || n > 0 || errors.Is(err, io.EOF) {
		t.Errorf("it is answered: %d bytes, %v", n, err)
	}
}

func TestAHostCannotHaveManyStreamsHeard(t *testing.T) {
	a := newNode(t, "a", ours(t))
	stranger := listening(t)
	check(t, stranger.Connect(t.Context(), peer.AddrInfo{ID: a.p2p.ID(), Addrs: a.p2p.Addrs()}))
	refused := make(chan error)
	const streams = 3 * mostOfOne
	for range streams {
		s := must(stranger.NewStream(t.Context(), a.p2p.ID(), Protocol))(t)
		must(s.Write([]byte{0}))(t) // has the protocol agreed upon
		go func() {
			_, err := s.Read(make([]byte, 1))
			refused <- err
		}()
	}
	for range streams - mostOfOne {
		select {
		case err := <-refused:
			if err == nil {
				t.Error("a stream that says nothing is answered")
			}
		case <-time.After(wait):
			t.Fatal("more streams are heard")
		}
	}
	for range mostOfOne {
		<-refused
	}
}

func TestLeavingEndsWhatGoesOn(t *testing.T) {
	a, b := listening(t), newNode(t, "b", ours(t))
	l := must(New(Options{Self: a.ID(), Namespace: ours(t)}))(t)
	for range 2 {
		leave := must(l.Join(t.Context(), a))(t)
		b.connect(a)
		check(t, l.Acquire(t.Context(), volume(t, "db"), false))
		check(t, leave())
		check(t, l.Acquire(t.Context(), volume(t, "alone"), false))
	}
}
