package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
)

// server answers the requests of peers.
type server struct {
	x       *Exchange
	buffers sync.Pool // of *[]byte

	mu     sync.Mutex
	ofPeer map[peer.ID]int
	all    int
	closed bool
	work   sync.WaitGroup
}

// intoGetter is what blocks have beyond [snapshot.Blocks] if they read into the caller's memory.
type intoGetter interface {
	GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
}

// uncheckedGetter is what blocks have that can leave it to who gets the bytes to check them.
type uncheckedGetter interface {
	GetUnchecked(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
}

// enter takes one of the places of a peer.
func (s *server) enter(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.all >= answers || s.ofPeer[p] >= answersOfPeer {
		return false
	}
	s.all++
	s.ofPeer[p]++
	s.work.Add(1)
	return true
}

func (s *server) leave(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.ofPeer[p]--; s.ofPeer[p] == 0 {
		delete(s.ofPeer, p)
	}
	s.work.Done()
}

func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Wait()
}

func (s *server) handle(stream network.Stream) {
	p := stream.Conn().RemotePeer()
	if !s.x.o.allows(p) || !s.enter(p) {
		stream.Reset()
		return
	}
	defer s.leave(p)
	stop := context.AfterFunc(s.x.ctx, func() { stream.Reset() })
	defer stop()
	if err := s.answer(s.x.ctx, stream); err != nil {
		stream.Reset()
		if errors.Is(err, errRequest) {
			s.x.log.Warn("request refused", logPeer, p, logError, err)
		}
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
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	out, sent := (*buf)[:0], 0
	flush := func() error {
		if err := stream.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		_, err := stream.Write(out)
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
