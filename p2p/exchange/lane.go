package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/snapshot"
)

// Lanes are connections that take less of the processor than streams do, and cost more to open. Whether there is one to a
// peer is for networks to say: what a lane does not carry, streams do.
type Lanes interface {
	Lane(ctx context.Context, p peer.ID) (net.Conn, error)
	ServeLanes(serve func(p peer.ID, c net.Conn))
}

const (
	// much is how many bytes a peer has brought before a lane to it is worth its opening.
	much = 4 << 20
	// laneRest is how long none is opened to a peer after one failed.
	laneRest = 30 * time.Second
	// laneUnused is after what time one is closed, by who opened it; the other one waits for longer.
	laneUnused = 20 * time.Second
	laneIdle   = 3 * laneUnused
	// laneUnwanted is how long an answer goes on that nobody wants any more: what is left of it mostly takes less than a new
	// lane does, but must not keep what is wanted now from being asked for.
	laneUnwanted = 500 * time.Millisecond
)

// errLane says that a lane failed, which does not mean that the peer did.
var errLane = errors.New("its lane failed")

// unused is a lane that waits for a request.
type unused struct {
	conn  net.Conn
	since time.Time
}

// takeLane returns a lane that is not used now, nil if there is none.
func (x *Exchange) takeLane(r *remote) net.Conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(r.unused) == 0 {
		return nil
	}
	last := len(r.unused) - 1
	conn := r.unused[last].conn
	r.unused = r.unused[:last]
	return conn
}

// giveLane has a lane be used for further requests, unless another one failed meanwhile.
func (x *Exchange) giveLane(r *remote, conn net.Conn) {
	x.mu.Lock()
	keep := !r.gone && !x.closed && !time.Now().Before(r.noLane)
	if keep {
		r.unused = append(r.unused, unused{conn, time.Now()})
	} else {
		r.lanes--
	}
	x.mu.Unlock()
	if !keep {
		conn.Close()
	}
}

// endLane closes a lane. If it failed, streams are used for a while: what one request waited for in vain is not to wait for
// the next lane as well.
func (x *Exchange) endLane(r *remote, conn net.Conn, failed bool) {
	conn.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	r.lanes--
	if failed {
		r.noLane = time.Now().Add(laneRest)
		x.closeUnused(r, true)
	}
}

// openLanes opens one more lane to a peer that brings much. It is called with mu held.
func (x *Exchange) openLanes(r *remote) {
	if x.o.Lanes == nil || x.closed || r.gone || r.came < much || r.lanes >= requestsOfPeer || time.Now().Before(r.noLane) {
		return
	}
	r.lanes++
	x.work.Go(func() {
		conn, err := x.o.Lanes.Lane(x.ctx, r.id)
		if err == nil {
			x.giveLane(r, conn)
			return
		}
		if x.ctx.Err() == nil {
			x.log.Debug("no lane to a peer; streams go on", logPeer, r.id, logError, err)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		r.lanes--
		r.noLane = time.Now().Add(laneRest)
	})
}

// closeUnused closes the lanes of a peer that nothing was asked over for a while, or all. It is called with mu held.
func (x *Exchange) closeUnused(r *remote, all bool) {
	keep := r.unused[:0]
	for _, u := range r.unused {
		if !all && time.Since(u.since) < laneUnused {
			keep = append(keep, u)
			continue
		}
		r.lanes, r.came = r.lanes-1, 0
		x.work.Go(func() { u.conn.Close() }) // without mu: it can wait for the peer
	}
	r.unused = keep
}

// laneAnswer is a lane that an answer is read from. It ends soon once it is told to hurry.
type laneAnswer struct {
	net.Conn

	mu    sync.Mutex
	until time.Time // zero: it need not hurry
	over  bool      // the lane is somebody else's
}

func (a *laneAnswer) SetReadDeadline(t time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.until.IsZero() && a.until.Before(t) {
		t = a.until
	}
	return a.Conn.SetReadDeadline(t)
}

func (a *laneAnswer) hurry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.until = time.Now().Add(laneUnwanted)
		a.Conn.SetReadDeadline(a.until)
	}
}

func (a *laneAnswer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}

// overLane is a request over a lane, which is nobody else's until then. ctx ends when nobody wants the answer any more.
func (x *Exchange) overLane(ctx context.Context, conn net.Conn, r *remote, ws []*want) (got received, err error) {
	whole := false
	defer func() {
		if whole {
			x.giveLane(r, conn)
			return
		}
		// What is late is only the end of an answer that nobody waits for.
		late := ctx.Err() != nil && len(got.lacks)+got.blocks == len(ws)
		x.endLane(r, conn, x.ctx.Err() == nil && !late)
		if !errors.Is(err, snapshot.ErrDamaged) {
			err = fmt.Errorf("%w: %w", errLane, noEOF(err))
		}
	}()
	stop := context.AfterFunc(x.ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(x.o.Stall)); err != nil {
		return got, err
	}
	if _, err := conn.Write(encodeLaneRequest(cidsOf(ws))); err != nil {
		return got, err
	}
	answer := &laneAnswer{Conn: conn}
	defer answer.end()
	unhurried := context.AfterFunc(ctx, answer.hurry)
	defer unhurried()
	got, err = x.receive(answer, r, ws)
	switch {
	case err == nil:
		if _, _, err = readHeader(answer); err == nil {
			err = errors.New("an answer that goes on after its end")
		}
	case err == io.EOF:
		return got, io.ErrUnexpectedEOF
	}
	if err != errEnd || len(got.lacks)+got.blocks == 0 {
		return got, err
	}
	whole = stop() // else the connection is being closed
	return got, nil
}

func cidsOf(ws []*want) []cid.Cid {
	cs := make([]cid.Cid, len(ws))
	for i, w := range ws {
		cs[i] = w.c
	}
	return cs
}

// serveLane answers one request after another, until the peer closes the lane or says nothing for long.
func (s *server) serveLane(p peer.ID, conn net.Conn) {
	stop := context.AfterFunc(s.x.ctx, func() { conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	for {
		err := s.answerLane(p, conn, in)
		if errors.Is(err, errRequest) {
			s.refuse(p, err)
		}
		if err != nil {
			return
		}
	}
}

func (s *server) answerLane(p peer.ID, conn net.Conn, in *bufio.Reader) error {
	if err := conn.SetDeadline(time.Now().Add(laneIdle)); err != nil {
		return err
	}
	if _, err := in.Peek(1); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	cs, err := readLaneRequest(in)
	if err != nil {
		return err
	}
	if !s.x.o.allows(p) {
		return errors.New("it is not served")
	}
	a := s.enter(p, conn.Close)
	if a == nil {
		return errors.New("no place")
	}
	defer s.leave(p, a)
	return s.send(s.x.ctx, conn, cs, endOfAnswer)
}
