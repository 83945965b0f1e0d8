package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// connectedPair are two hosts of a swarm; the second serves lanes by sending back what comes.
func connectedPair(t *testing.T, o Options) (from, to *Host) {
	t.Helper()
	to = newHost(t, o)
	to.ServeLanes(func(_ peer.ID, c net.Conn) { io.Copy(c, c) })
	o.Peers, o.Identity, o.Listen = []peer.AddrInfo{infoOf(to)}, nil, nil
	from = newHost(t, o)
	eventually(t, "they know what they speak", func() bool {
		own, err := from.libp2p.Peerstore().SupportsProtocols(to.libp2p.ID(), laneProtocol)
		return err == nil && len(own) > 0 && connectedTo(to, from)
	})
	return from, to
}

func echo(c net.Conn) error {
	said := []byte("back and forth")
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write(said); err != nil {
		return err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(c, heard); err != nil || !bytes.Equal(heard, said) {
		return errors.Join(errors.New("something else came back"), err)
	}
	return nil
}

func TestALaneCarriesBytesUntilItsPeerIsGone(t *testing.T) {
	for name, private := range map[string]bool{"private": true, "open": false} {
		t.Run(name, func(t *testing.T) {
			var o Options
			if private {
				o.SwarmKey = newSwarmKey(t)
			}
			a, b := connectedPair(t, o)
			l, err := a.Lane(t.Context(), b.libp2p.ID())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			before, _ := a.Traffic()
			if err := echo(l); err != nil {
				t.Fatal(err)
			}
			eventually(t, "what a lane carries is counted", func() bool { in, _ := a.Traffic(); return in > before })
			if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("it goes on without the peer: %v", err)
			}
			eventually(t, "the lane is forgotten", func() bool {
				l.Close()
				a.mu.Lock()
				defer a.mu.Unlock()
				return len(a.lanes) == 0
			})
		})
	}
}

func TestALaneEndsWithTheConnectionThatItIsBeside(t *testing.T) {
	a, b := connectedPair(t, Options{SwarmKey: newSwarmKey(t)})
	l, err := a.Lane(t.Context(), b.libp2p.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := b.libp2p.Network().ClosePeer(a.libp2p.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it goes on: %v", err)
	}
}

func TestLanesAreBounded(t *testing.T) {
	a, b := connectedPair(t, Options{SwarmKey: newSwarmKey(t)})
	var all []net.Conn
	for range MaxPeerLanes {
		l, err := a.Lane(t.Context(), b.libp2p.ID())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := echo(l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	if l, err := a.Lane(t.Context(), b.libp2p.ID()); !errors.Is(err, ErrNoLane) {
		t.Errorf("one more is %v, %v", l, err)
	}
	for _, l := range all {
		l.Close()
	}
	noOffers(t, b)
}

// noOffers waits until no lanes count that others have opened, or are about to.
func noOffers(t *testing.T, h *Host) {
	t.Helper()
	eventually(t, "there is room for lanes again", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.offers)+len(h.lanes) == 0
	})
}

func TestWhoServesNoLanesHasNone(t *testing.T) {
	a, b := connectedPair(t, Options{SwarmKey: newSwarmKey(t)})
	if _, err := b.Lane(t.Context(), a.libp2p.ID()); !errors.Is(err, ErrNoLane) {
		t.Errorf("there is a lane: %v", err)
	}
}

// A host that others cannot connect to does not begin to listen.
func TestWhoDoesNotListenGivesNoTicket(t *testing.T) {
	key := newSwarmKey(t)
	a := newHost(t, Options{SwarmKey: key})
	b := newHost(t, Options{SwarmKey: key, Peers: []peer.AddrInfo{infoOf(a)}, Listen: []ma.Multiaddr{}})
	b.ServeLanes(func(_ peer.ID, c net.Conn) { io.Copy(c, c) })
	eventually(t, "they are connected", func() bool {
		own, err := a.libp2p.Peerstore().SupportsProtocols(b.libp2p.ID(), laneProtocol)
		return err == nil && len(own) > 0
	})
	if _, err := a.Lane(t.Context(), b.libp2p.ID()); !errors.Is(err, ErrNoLane) {
		t.Errorf("there is a lane: %v", err)
	}
}

func TestATicketIsOfNoUseToAnother(t *testing.T) {
	a, b := connectedPair(t, Options{SwarmKey: newSwarmKey(t)})
	at, stolen, err := a.askLane(t.Context(), b.libp2p.ID())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", netip.AddrPortFrom(at, stolen.port).String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(stolen.proof()); err != nil {
		t.Fatal(err)
	}
	thief := newHost(t, Options{})
	secured, err := thief.tls.SecureOutbound(t.Context(), conn, b.libp2p.ID())
	if err == nil {
		defer secured.Close()
		err = echo(secured)
	}
	if err == nil {
		t.Error("another identity than the ticket's was let in")
	}
	noOffers(t, b)
}

func TestAStrangerAtTheDoorIsToldNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	known := ticket{port: 1, secret: [16]byte{1}}
	accepted := make(chan error, 1)
	go func() {
		conn, err := known.accept(t.Context(), l)
		if err == nil {
			_, err = conn.Write([]byte("welcome"))
			err = errors.Join(err, conn.Close())
		}
		accepted <- err
	}()
	for name, says := range map[string][]byte{"another's": ticket{secret: [16]byte{2}}.proof(), "the secret": known.secret[:], "part of it": known.proof()[:15]} {
		if heard := call(t, l.Addr().String(), says); heard != "" {
			t.Errorf("%s was answered %q", name, heard)
		}
	}
	if heard := call(t, l.Addr().String(), known.proof()); heard != "welcome" {
		t.Errorf("the holder heard %q", heard)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}

func TestTheHolderOfATicketNeedNotWaitForStrangers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent := make([]net.Conn, strangers-1)
	for i := range silent {
		if silent[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer silent[i].Close()
	}
	known := ticket{secret: [16]byte{1}}
	holder, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if _, err := holder.Write(known.proof()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	let, err := known.accept(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer let.Close()
	if took := time.Since(began); let.RemoteAddr().String() != holder.LocalAddr().String() || took > laneTime {
		t.Errorf("%s was let in after %s", let.RemoteAddr(), took)
	}
	for _, c := range silent {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("one who says nothing is left waiting: %v", err)
		}
	}
}

func TestWhoGivesNoTicketIsNotWaitedForAtTheEnd(t *testing.T) {
	a, b := connectedPair(t, Options{SwarmKey: newSwarmKey(t)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.libp2p.SetStreamHandler(laneProtocol, func(network.Stream) { cancel() })
	if _, err := a.Lane(ctx, b.libp2p.ID()); !errors.Is(err, ErrNoLane) || !errors.Is(err, context.Canceled) {
		t.Errorf("it is waited for: %v", err)
	}
}

func TestLanesAreWhereAHostListens(t *testing.T) {
	for _, c := range []struct {
		on, at string
		covers bool
	}{
		{"0.0.0.0", "10.0.0.1", true},
		{"0.0.0.0", "fd00::1", false},
		{"::", "fd00::1", true},
		{"::", "10.0.0.1", false},
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"fd00::1", "fd00::1", true},
		{"fd00::1", "10.0.0.1", false},
	} {
		if got := covers(netip.MustParseAddr(c.on), netip.MustParseAddr(c.at)); got != c.covers {
			t.Errorf("who listens on %s is reached at %s: %v", c.on, c.at, got)
		}
	}
}

func call(t *testing.T, addr string, says []byte) (heard string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(says); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(conn) // a reset is an answer, too
	return string(b)
}

func TestTicketsStayAsTheyAre(t *testing.T) {
	known := ticket{port: 0x1234, secret: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}
	got := append(known.encode(), known.proof()...)
	file := filepath.Join("testdata", "golden", "ticket.bin")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("a ticket and its proof are %x, and were %x: %v", got, want, err)
	}
}

func FuzzTicket(f *testing.F) {
	f.Add(ticket{port: 5000}.encode())
	f.Add([]byte{0, 80, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readTicket(bytes.NewReader(data))
		switch {
		case err != nil:
		case got.port < leastLanePort:
			t.Errorf("port %d", got.port)
		case !bytes.Equal(got.encode(), data[:ticketSize]):
			t.Errorf("%x was read, and is %x", data, got.encode())
		}
	})
}
