package lease

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Protocol is that of the streams: who opens one says what it holds, the other answers with what that holds.
const Protocol = "/volary/leases/1"

const (
	tellTime = 2 * time.Second // that hosts have to answer
	askTime  = 2 * tellTime    // one that may go on, and one more

	mostHeard = 64 // streams that others have opened
	mostOfOne = 4  // of these by one host
)

// Keys of log records.
const (
	logVolume = "volume"
	logPeer   = "peer"
	logHost   = "host"
	logError  = "error"
)

// speaker tells other hosts, and hears them, while this one is in a network.
type speaker struct {
	l     *Leases
	h     host.Host
	asks  chan chan struct{} // closed when all were told, and heard
	end   context.CancelFunc
	ended chan struct{} // closed when no more asks are taken

	mu      sync.Mutex
	closed  bool             // no work begins any more
	meeting map[peer.ID]bool // those that have connected, and are told
	hearing map[peer.ID]int  // streams by who has opened them
	heard   int              // all of these
	work    sync.WaitGroup
}

func (l *Leases) speak(ctx context.Context, h host.Host) (*speaker, error) {
	events, err := h.EventBus().Subscribe([]any{&event.EvtPeerIdentificationCompleted{}, &event.EvtPeerProtocolsUpdated{}})
	if err != nil {
		return nil, err
	}
	s := &speaker{l: l, h: h, asks: make(chan chan struct{}), ended: make(chan struct{}), meeting: map[peer.ID]bool{}, hearing: map[peer.ID]int{}}
	ctx, s.end = context.WithCancel(ctx)
	h.SetStreamHandler(Protocol, func(stream network.Stream) { s.serve(ctx, stream) })
	s.work.Go(func() { s.run(ctx, events) })
	l.nudge()
	return s, nil
}

func (s *speaker) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.h.RemoveStreamHandler(Protocol)
	s.work.Wait()
	return nil
}

// ask returns when all connected hosts were told what this one has now, and have answered, or after askTime.
func (s *speaker) ask(ctx context.Context) {
	ctx, done := context.WithTimeout(ctx, askTime)
	defer done()
	answered := make(chan struct{})
	select {
	case s.asks <- answered:
	case <-s.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-answered:
	case <-s.ended:
	case <-ctx.Done():
	}
}

// run tells the others what changed, whoever connects, and all of them now and then, until ctx is done.
func (s *speaker) run(ctx context.Context, events event.Subscription) {
	defer close(s.ended)
	defer events.Close()
	ticks := s.l.o.ticks
	if ticks == nil {
		t := time.NewTicker(s.l.o.Duration / 3)
		defer t.Stop()
		ticks = t.C
	}
	var running chan struct{} // nil: nobody is being told
	var waiting []chan struct{}
	due := false
	for {
		if running == nil && (due || len(waiting) > 0) {
			running, due = s.beginTelling(ctx, waiting), false
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events.Out():
			s.connected(ctx, e)
		case <-ticks:
			due = due || !s.l.table.empty()
		case <-s.l.changed:
			due = true
		case answered := <-s.asks:
			waiting = append(waiting, answered)
		case <-running:
			running = nil
		}
	}
}

// connected exchanges leases with a host that connected.
func (s *speaker) connected(ctx context.Context, e any) {
	var p peer.ID
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		p = e.Peer
	case event.EvtPeerProtocolsUpdated:
		p = e.Peer
	}
	if !s.speaks(p) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.meeting[p] {
		return
	}
	s.meeting[p] = true
	s.work.Go(func() {
		data, err := s.l.message()
		if err == nil {
			err = s.exchange(ctx, p, data)
		}
		s.complain(ctx, p, err)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.meeting, p)
	})
}

func (s *speaker) speaks(p peer.ID) bool {
	spoken, err := s.h.Peerstore().SupportsProtocols(p, Protocol)
	return err == nil && len(spoken) > 0
}

// beginTelling tells all connected hosts at once, and closes what it returns, and the answered, when they answered.
func (s *speaker) beginTelling(ctx context.Context, answered []chan struct{}) chan struct{} {
	done := make(chan struct{})
	s.work.Go(func() {
		defer close(done)
		defer func() {
			for _, a := range answered {
				close(a)
			}
		}()
		data, err := s.l.message()
		if err != nil {
			s.l.log.Error("other hosts are not told of leases", logError, err)
			return
		}
		var all sync.WaitGroup
		for _, p := range s.h.Network().Peers() {
			if s.speaks(p) {
				all.Go(func() { s.complain(ctx, p, s.exchange(ctx, p, data)) })
			}
		}
		all.Wait()
	})
	return done
}

func (s *speaker) complain(ctx context.Context, p peer.ID, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, errOld) {
		s.l.log.Debug("leases were not exchanged with a host", logPeer, p, logError, err)
	}
}

// exchange says what this host holds, and hears what the other does.
func (s *speaker) exchange(ctx context.Context, p peer.ID, data []byte) error {
	ctx, done := context.WithTimeout(network.WithNoDial(ctx, "leases"), tellTime)
	defer done()
	stream, err := s.h.NewStream(ctx, p, Protocol)
	if err != nil {
		return err
	}
	return s.with(ctx, stream, func() error {
		if err := writeFrame(stream, data); err != nil {
			return err
		}
		if err := stream.CloseWrite(); err != nil {
			return err
		}
		return s.hearFrom(p, stream)
	})
}

// serve answers a host that says what it holds, unless too many do at the time.
func (s *speaker) serve(ctx context.Context, stream network.Stream) {
	if !s.beginServing(ctx, stream) {
		stream.Reset() // without mu: it can wait for the peer
	}
}

func (s *speaker) beginServing(ctx context.Context, stream network.Stream) bool {
	p := stream.Conn().RemotePeer()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.heard >= mostHeard || s.hearing[p] >= mostOfOne {
		return false
	}
	s.heard++
	s.hearing[p]++
	s.work.Go(func() {
		s.complain(ctx, p, s.with(ctx, stream, func() error {
			if err := s.hearFrom(p, stream); err != nil && !errors.Is(err, errOld) {
				return err
			}
			data, err := s.l.message()
			if err != nil {
				return err
			}
			return writeFrame(stream, data)
		}))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.heard--
		if s.hearing[p]--; s.hearing[p] == 0 {
			delete(s.hearing, p)
		}
	})
	return true
}

// with does one side of an exchange, and ends the stream.
func (s *speaker) with(ctx context.Context, stream network.Stream, side func() error) error {
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	defer stop()
	err := stream.SetDeadline(time.Now().Add(tellTime))
	if err == nil {
		err = side()
	}
	if err != nil {
		stream.Reset()
		return err
	}
	return stream.Close()
}

// hearFrom hears one message; one without anything is from a host that may not hold leases.
func (s *speaker) hearFrom(p peer.ID, in io.Reader) error {
	data, err := readFrame(in)
	if err != nil {
		return fmt.Errorf("leases of %s: %w", p, err)
	}
	if len(data) == 0 {
		return nil
	}
	return s.l.hear(p, data)
}

// writeFrame sends a message after its length in 32 bits.
func writeFrame(out io.Writer, data []byte) error {
	_, err := out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// readFrame receives a message of at most MaxMessage bytes.
func readFrame(in io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxMessage {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed: %w", n, MaxMessage, ErrFormat)
	}
	data := make([]byte, n)
	_, err := io.ReadFull(in, data)
	return data, err
}
