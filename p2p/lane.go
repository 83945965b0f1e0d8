package p2p

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// laneProtocol is how a host asks another one for a lane: who has opened the stream is sent a ticket.
const laneProtocol = "/volary/lane/1"

const (
	// laneTime is how long the making of one may take.
	laneTime = 5 * time.Second
	// MaxPeerLanes is how many lanes a peer may have opened to this host, and maxLanes how many all may have.
	MaxPeerLanes = 4
	maxLanes     = 64
	// strangers is how many connections to a lane's port are listened to at a time: its holder need not wait for those who
	// say nothing.
	strangers = 16
	// leastLanePort is above those of a system's services: a peer chooses where this host connects to.
	leastLanePort = 1024
)

// ErrNoLane says that there is no connection to a peer but the one that all streams share.
var ErrNoLane = errors.New("no lane")

// lane is a connection that carries nothing else.
type lane struct {
	net.Conn
	raw    net.Conn // what Conn is over
	h      *Host
	peer   peer.ID
	opened bool // by the peer
}

func (l *lane) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.h.traffic.LogRecvMessage(int64(n))
	return n, err
}

func (l *lane) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	l.h.traffic.LogSentMessage(int64(n))
	return n, err
}

func (l *lane) Close() error {
	l.h.mu.Lock()
	if _, is := l.h.lanes[l]; is && l.opened {
		l.h.endOffer(l.peer)
	}
	delete(l.h.lanes, l)
	l.h.mu.Unlock()
	return l.raw.Close() // no farewell, for which a peer that does not read could be waited for
}

// Lane opens a connection of its own to a peer that is connected: TLS between the identities of the two, without the
// cipher of the swarm key, which costs more of the processor than all else that a stream does. The peer says over the
// connection that there is where it waits, for this one time; nobody else learns that. It ends with that connection.
// The error wraps [ErrNoLane].
func (h *Host) Lane(ctx context.Context, p peer.ID) (_ net.Conn, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w to %s: %w", ErrNoLane, p, err)
		}
	}()
	if own, err := h.libp2p.Peerstore().SupportsProtocols(p, laneProtocol); err != nil || len(own) == 0 {
		return nil, errors.Join(errors.New("the peer has none"), err)
	}
	ctx, cancel := context.WithTimeout(ctx, laneTime)
	defer cancel()
	at, t, err := h.askLane(ctx, p)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(at, t.port).String())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(t.proof()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secured, err := h.tls.SecureOutbound(ctx, conn, p) // closes conn if it fails
	if err != nil {
		return nil, err
	}
	return h.addLane(&lane{secured, conn, h, p, false})
}

// askLane returns where a peer is, and the ticket it gives.
func (h *Host) askLane(ctx context.Context, p peer.ID) (at netip.Addr, t ticket, err error) {
	s, err := h.libp2p.NewStream(network.WithNoDial(ctx, "lane"), p, laneProtocol)
	if err != nil {
		return at, t, err
	}
	defer func() {
		if err != nil {
			s.Reset()
		} else {
			s.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if at, err = addrOf(s.Conn().RemoteMultiaddr()); err != nil {
		return at, t, err
	}
	if t, err = readTicket(s); err != nil {
		return at, t, errors.Join(err, ctx.Err())
	}
	return at, t, nil
}

// ServeLanes has serve use the lanes that peers open, and close them, until Close. It is called once at most.
func (h *Host) ServeLanes(serve func(peer.ID, net.Conn)) {
	h.libp2p.SetStreamHandler(laneProtocol, func(s network.Stream) {
		h.begin(func() {
			l, err := h.offerLane(s)
			if err != nil {
				h.log.Debug("a lane was not opened", logPeer, s.Conn().RemotePeer(), logError, err)
				s.Reset()
				return
			}
			s.Close()
			defer l.Close()
			serve(l.peer, l)
		})
	})
}

// offerLane waits for the peer of a stream where nobody else is waited for.
func (h *Host) offerLane(s network.Stream) (_ *lane, err error) {
	p := s.Conn().RemotePeer()
	at, err := addrOf(s.Conn().LocalMultiaddr())
	if err != nil {
		return nil, err
	}
	if !h.listensOn(at) {
		return nil, fmt.Errorf("%s is not listened on", at)
	}
	if !h.takeOffer(p) {
		return nil, errors.New("too many")
	}
	defer func() {
		if err != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.endOffer(p)
		}
	}()
	deadline := time.Now().Add(laneTime)
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	t := ticket{port: listener.Addr().(*net.TCPAddr).AddrPort().Port()}
	_, _ = rand.Read(t.secret[:])
	if err := errors.Join(s.SetDeadline(deadline), listener.SetDeadline(deadline)); err != nil {
		return nil, err
	}
	if _, err := s.Write(t.encode()); err != nil {
		return nil, err
	}
	conn, err := t.accept(h.alive, listener)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(h.alive, deadline)
	defer cancel()
	secured, err := h.tls.SecureInbound(ctx, conn, p) // closes conn if it fails
	if err != nil {
		return nil, err
	}
	return h.addLane(&lane{secured, conn, h, p, true})
}

// addLane notes a lane, unless its peer is not connected any more. That is asked under mu: of one that goes meanwhile
// left takes note afterwards.
func (h *Host) addLane(l *lane) (*lane, error) {
	h.mu.Lock()
	connected := !h.closed && h.libp2p.Network().Connectedness(l.peer) == network.Connected
	if connected {
		h.lanes[l] = struct{}{}
	}
	h.mu.Unlock()
	if !connected {
		return nil, errors.Join(errors.New("the peer is not connected any more"), l.raw.Close())
	}
	return l, nil
}

// takeOffer reports whether a peer may open one more lane, which counts from then on until it is closed.
func (h *Host) takeOffer(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := 0
	for _, n := range h.offers {
		all += n
	}
	if h.offers[p] >= MaxPeerLanes || all >= maxLanes {
		return false
	}
	h.offers[p]++
	return true
}

// endOffer is called with mu held.
func (h *Host) endOffer(p peer.ID) {
	if h.offers[p]--; h.offers[p] == 0 {
		delete(h.offers, p)
	}
}

// lanesOf returns the lanes of a peer, or all if it is empty. It is called with mu held.
func (h *Host) lanesOf(p peer.ID) []*lane {
	var of []*lane
	for l := range h.lanes {
		if p == "" || l.peer == p {
			of = append(of, l)
		}
	}
	return of
}

// listensOn reports whether others may connect to an address of this host.
func (h *Host) listensOn(at netip.Addr) bool {
	for _, a := range h.swarm.ListenAddresses() {
		if on, err := addrOf(a); err == nil && covers(on, at) {
			return true
		}
	}
	return false
}

// covers reports whether who listens on one address is reached at another. libp2p listens on :: for IPv6 alone.
func covers(on, at netip.Addr) bool {
	return on == at || on.IsUnspecified() && on.Is4() == at.Is4()
}

func addrOf(a ma.Multiaddr) (netip.Addr, error) {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, err
	}
	at, _ := netip.AddrFromSlice(ip)
	if at = at.Unmap(); at.IsLinkLocalUnicast() {
		return at, fmt.Errorf("%s needs an interface", at)
	}
	return at, nil
}

// ticket lets its holder connect once.
type ticket struct {
	port   uint16
	secret [16]byte
}

const ticketSize = 2 + 16

func (t ticket) encode() []byte {
	return append(binary.BigEndian.AppendUint16(nil, t.port), t.secret[:]...)
}

// readTicket reads what encode made.
func readTicket(r io.Reader) (t ticket, err error) {
	var b [ticketSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return t, err
	}
	t.port = binary.BigEndian.Uint16(b[:])
	copy(t.secret[:], b[2:])
	if t.port < leastLanePort {
		return t, fmt.Errorf("port %d is below %d", t.port, leastLanePort)
	}
	return t, nil
}

// proof is what the holder sends first. It is not the secret itself, so that who gives a ticket cannot have its holder
// send words of its choice to something else that listens there.
func (t ticket) proof() []byte {
	sum := sha256.Sum256(append([]byte(laneProtocol), t.secret[:]...))
	return sum[:16]
}

// accept returns the connection of the ticket's holder, and closes the listener. Others are closed before anything is said
// to them.
func (t ticket) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	context.AfterFunc(ctx, func() { l.Close() })
	var work sync.WaitGroup
	places, holder := make(chan struct{}, strangers), make(chan net.Conn, 1)
	for {
		conn, err := l.Accept()
		if err != nil {
			done()
			work.Wait()
			select {
			case conn := <-holder:
				return conn, nil
			default:
				return nil, err
			}
		}
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			if t.shown(conn) && stop() {
				select {
				case holder <- conn:
					done()
					return
				default:
				}
			}
			conn.Close()
		})
	}
}

func (t ticket) shown(conn net.Conn) bool {
	var b [16]byte
	if err := conn.SetDeadline(time.Now().Add(laneTime / 5)); err != nil {
		return false
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil || string(b[:]) != string(t.proof()) {
		return false
	}
	return conn.SetDeadline(time.Time{}) == nil
}
