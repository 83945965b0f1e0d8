package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/snapshot"
)

const (
	// requestTime is how long a peer may take to say what it wants, writeTime to take what is written at once.
	requestTime = 10 * time.Second
	writeTime   = 30 * time.Second
	// answersOfPeer and answers bound how many are being made, for one peer and for all.
	answersOfPeer = 16
	answers       = 128
	// written is how many bytes are collected before they are sent.
	written = 128 << 10
	// refuseTime is how long one is not answered who sent a malformed request; that is remembered of so many at most.
	refuseTime  = time.Minute
	mostRefused = 1024
)

// server answers the requests of peers.
type server struct {
	x       *Exchange
	buffers sync.Pool // of *[]byte

	mu      sync.Mutex
	ofPeer  map[peer.ID][]*answer // those that are being made, the oldest first
	all     int
	refused map[peer.ID]time.Time // until when they are not answered, as what they sent was malformed
	closed  bool
	work    sync.WaitGroup
}

// answer is one that is being made.
type answer struct{ reset func() error }

// intoGetter is what blocks have beyond [snapshot.Blocks] if they read into the caller's memory.
type intoGetter interface {
	GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
}

// uncheckedGetter is what blocks have that can leave it to who gets the bytes to check them.
type uncheckedGetter interface {
	GetUnchecked(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
}

// enter takes one of the places of a peer; nil if it gets none. Where all places are taken, one who has fewer gets that of
// one who has more: some who ask and do not read must not keep all others waiting.
func (s *server) enter(p peer.ID, reset func() error) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.ofPeer[p]) >= answersOfPeer || s.refuses(p) || s.all >= answers && !s.makeRoom(len(s.ofPeer[p])+1) {
		return nil
	}
	a := &answer{reset}
	s.all++
	s.ofPeer[p] = append(s.ofPeer[p], a)
	s.work.Add(1)
	return a
}

// makeRoom ends the oldest answer to who has the most, if that are more than some. It is called with mu held.
func (s *server) makeRoom(than int) bool {
	var most peer.ID
	for p, all := range s.ofPeer {
		if len(all) > max(than, len(s.ofPeer[most])) {
			most = p
		}
	}
	if most == "" {
		return false
	}
	oldest := s.ofPeer[most][0]
	s.forget(most, oldest)
	s.work.Go(func() { oldest.reset() }) // without mu: it can wait for the peer
	return true
}

// forget gives the place of an answer back, unless that has been done. It is called with mu held.
func (s *server) forget(p peer.ID, a *answer) {
	all := s.ofPeer[p]
	i := slices.Index(all, a)
	if i < 0 {
		return
	}
	s.all--
	if s.ofPeer[p] = slices.Delete(all, i, i+1); len(s.ofPeer[p]) == 0 {
		delete(s.ofPeer, p)
	}
}

func (s *server) leave(p peer.ID, a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(p, a)
	s.work.Done()
}

// refuses reports whether a peer is not answered for now. It is called with mu held.
func (s *server) refuses(p peer.ID) bool {
	until, is := s.refused[p]
	if is && time.Now().After(until) {
		delete(s.refused, p)
		return false
	}
	return is
}

// refuse has a peer not be answered for a while, and says so once.
func (s *server) refuse(p peer.ID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses(p) {
		return
	}
	if len(s.refused) >= mostRefused {
		clear(s.refused)
	}
	s.refused[p] = time.Now().Add(refuseTime)
	s.x.log.Warn("request refused; the peer is not answered for a while", logPeer, p, logError, err)
}

func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
}

func (s *server) handle(stream network.Stream) {
	p := stream.Conn().RemotePeer()
	if !s.x.o.allows(p) {
		stream.Reset()
		return
	}
	a := s.enter(p, stream.Reset)
	if a == nil {
		stream.Reset()
		return
	}
	defer s.leave(p, a)
	stop := context.AfterFunc(s.x.ctx, func() { stream.Reset() })
	defer stop()
	if err := s.answer(s.x.ctx, stream); err != nil {
		if errors.Is(err, errRequest) {
			s.refuse(p, err) // before the peer knows, and asks again
		}
		stream.Reset()
		return
	}
	stream.Close()
}

func (s *server) answer(ctx context.Context, stream network.Stream) error {
	if err := stream.SetDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	cs, err := readRequest(bufio.NewReader(stream))
	if err != nil {
		return err
	}
	return s.send(ctx, stream, cs, nil)
}

// sink is what an answer is written to.
type sink interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// send sends the answer to a request, and what ends it.
func (s *server) send(ctx context.Context, to sink, cs []cid.Cid, end []byte) (err error) {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	out, sent := (*buf)[:0], 0
	flush := func() error {
		if err := to.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		_, err := to.Write(out)
		out = out[:0]
		return err
	}
	for _, c := range cs {
		if sent >= enough {
			break
		}
		from := len(out)
		if out, err = s.append(ctx, out, c); err != nil {
			return err
		}
		sent += len(out) - from
		if len(out) >= written {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	out = append(out, end...)
	return flush()
}

// append appends a block, or that it is not there.
func (s *server) append(ctx context.Context, out []byte, c cid.Cid) ([]byte, error) {
	at := len(out)
	out = appendHeader(out, 0, false)
	data, err := s.x.localInto(ctx, c, out[len(out):])
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, snapshot.ErrNotFound), errors.Is(err, snapshot.ErrUnavailable):
		return out, nil
	case err != nil:
		s.x.log.Warn("block cannot be read", logBlock, c, logError, err)
		return out, nil
	case len(data) > snapshot.MaxBlockSize:
		return out, nil
	}
	appendHeader(out[:at], len(data), true)
	if end := len(out) + len(data); len(data) > 0 && end <= cap(out) && &out[:end][len(out)] == &data[0] {
		return out[:end], nil // it was read to its place
	}
	return append(out, data...), nil
}

// localInto reads what is on this host, for a peer, which checks it.
func (x *Exchange) localInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	has, err := x.local.Has(ctx, c)
	if err != nil {
		return nil, err
	}
	if !has[0] {
		return nil, fmt.Errorf("block %s: %w", c, snapshot.ErrNotFound)
	}
	if unchecked, ok := x.local.(uncheckedGetter); ok {
		return unchecked.GetUnchecked(ctx, c, buf)
	}
	if into, ok := x.local.(intoGetter); ok {
		return into.GetInto(ctx, c, buf)
	}
	b, err := x.local.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return b.RawData(), nil
}
