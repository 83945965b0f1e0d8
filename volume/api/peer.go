package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/zombie"
)

// Limits for the callers of one user.
const (
	maxConns     = 512
	maxSessions  = 128
	maxTransfers = 32 // requests that move blocks, each with a few MiB of memory; others wait
)

// Peer is who is at the other end of a connection, as the kernel says (SO_PEERCRED, unix(7)).
type Peer struct {
	PID      int32
	UID, GID uint32
}

type peerKey struct{}

// PeerFrom returns who made the request that ctx belongs to.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

func peerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("%T is no unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Peer{}, err
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, nil
}

// listenerKilled reports whether who is to answer at a socket was killed and cannot end: its socket takes connections as
// long as it is there.
func listenerKilled(c net.Conn) bool {
	peer, err := peerOf(c)
	if err != nil || peer.PID <= 0 {
		return false
	}
	p, err := zombie.Find(int(peer.PID))
	return err == nil && p.Killed()
}

// callers counts what each user has open.
type callers struct {
	mu  sync.Mutex
	all map[uint32]*caller
}

type caller struct {
	mu              sync.Mutex
	conns, sessions int
	transfers       chan struct{}
}

func (cs *callers) of(uid uint32) *caller {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.all[uid]
	if c == nil {
		c = &caller{transfers: make(chan struct{}, maxTransfers)}
		cs.all[uid] = c
	}
	return c
}

// take counts one more of n, unless there are limit already.
func (c *caller) take(n *int, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *n >= limit {
		return false
	}
	*n++
	return true
}

func (c *caller) give(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n--
}

// transfer waits for a turn to move blocks.
func (c *caller) transfer(ctx context.Context) (done func(), _ error) {
	select {
	case c.transfers <- struct{}{}:
		return func() { <-c.transfers }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peerListener lets in whom the kernel vouches for, and from each user so many at a time.
type peerListener struct {
	net.Listener
	callers *callers
	log     *slog.Logger
}

const refusal = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
	`{"kind":"too_many","message":"too many connections of this user: too many at a time"}` + "\n"

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := peerOf(c)
		if err != nil {
			l.log.Warn("connection refused", logError, err)
			c.Close()
			continue
		}
		who := l.callers.of(peer.UID)
		if !who.take(&who.conns, maxConns) {
			// The buffer of a new socket takes this without waiting.
			c.Write([]byte(refusal))
			c.Close()
			continue
		}
		return &peerConn{Conn: c, peer: peer, release: sync.OnceFunc(func() { who.give(&who.conns) })}, nil
	}
}

type peerConn struct {
	net.Conn
	peer    Peer
	release func()
}

func (c *peerConn) Close() error {
	c.release()
	return c.Conn.Close()
}
