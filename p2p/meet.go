package p2p

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// meetProtocol is how two hosts tell each other of themselves and others: each sends records, its own first, the one
// that has opened the stream before the other.
const meetProtocol = "/volary/peers/1"

const (
	maxTold     = 64 // peers that one is told of at a time
	meetTime    = 30 * time.Second
	meetEvery   = time.Minute // with any of the peers
	meetsAtOnce = 32          // that others begin, one each; more are turned away
	soon        = 500 * time.Millisecond
)

// serveMeet answers who begins a meeting, if not too many do at the time.
func (h *Host) serveMeet(ctx context.Context, s network.Stream) {
	if !h.beginMeeting(ctx, s) {
		s.Reset() // without mu: it can wait for the peer
	}
}

func (h *Host) beginMeeting(ctx context.Context, s network.Stream) bool {
	p := s.Conn().RemotePeer()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.meeting[p] || len(h.meeting) >= meetsAtOnce {
		return false
	}
	h.meeting[p] = true
	h.work.Go(func() {
		h.answer(ctx, s)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.meeting, p)
	})
	return true
}

func (h *Host) answer(ctx context.Context, s network.Stream) {
	p := s.Conn().RemotePeer()
	err := h.met(ctx, s, func(in reader) error {
		// What is said here is said after this host knows of the other: of two that meet a third at the same time,
		// the later one is told of the earlier.
		if err := h.hearFrom(p, in); err != nil {
			return err
		}
		return h.tell(p, s)
	})
	if err != nil && ctx.Err() == nil {
		h.log.Debug("a meeting broke off", logPeer, p, logError, err)
	}
}

// meet tells a peer of others, and is told. Peers that are no hosts of Volary are left alone.
func (h *Host) meet(ctx context.Context, p peer.ID) {
	limited, done := context.WithTimeout(network.WithNoDial(ctx, "meet"), meetTime)
	defer done()
	s, err := h.libp2p.NewStream(limited, p, meetProtocol)
	if err != nil {
		return
	}
	err = h.met(ctx, s, func(in reader) error {
		if err := h.tell(p, s); err != nil {
			return err
		}
		return h.hearFrom(p, in)
	})
	if err != nil && ctx.Err() == nil {
		h.log.Debug("a meeting broke off", logPeer, p, logError, err)
	}
}

// met does one side of a meeting, and ends the stream.
func (h *Host) met(ctx context.Context, s network.Stream, side func(reader) error) error {
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	s.SetDeadline(time.Now().Add(meetTime))
	err := side(bufio.NewReaderSize(io.LimitReader(s, (1+maxTold)*(maxRecord+8)), maxRecord))
	if err != nil {
		s.Reset()
		return err
	}
	return s.Close()
}

// tell sends this host's record and those of peers that it is connected to.
func (h *Host) tell(p peer.ID, s network.Stream) error {
	own, err := sign(h.o.Identity, peer.TimestampSeq(), h.libp2p.Addrs())
	if err != nil {
		return err
	}
	if _, err := s.Write(encodeRecords(slices.Insert(h.others(p), 0, own))); err != nil {
		return fmt.Errorf("tell %s of peers: %w", p, err)
	}
	return s.CloseWrite()
}

// others are records of connected peers but one, any of them if there are many.
func (h *Host) others(but peer.ID) []addresses {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []addresses
	for id := range h.live {
		if t := h.targets[id]; id != but && t != nil && len(t.record.addrs) > 0 {
			all = append(all, t.record)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(len(all), maxTold)]
}

// hearFrom takes over what a peer tells of itself and others.
func (h *Host) hearFrom(p peer.ID, in reader) error {
	all, err := readRecords(in, 1+maxTold)
	if err != nil {
		return fmt.Errorf("hear %s of peers: %w", p, err)
	}
	if len(all) == 0 || all[0].id != p {
		return fmt.Errorf("hear %s of peers: it does not begin with itself: %w", p, ErrFormat)
	}
	for i, r := range all {
		h.learn(r, i == 0)
	}
	h.nudge()
	return nil
}

// meetAgain has this host meet one of its peers now and then, for what was missed.
func (h *Host) meetAgain(ctx context.Context) {
	for {
		timer := time.NewTimer(jitter(meetEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if peers := h.libp2p.Network().Peers(); len(peers) > 0 {
			h.meet(ctx, peers[rand.IntN(len(peers))])
		}
	}
}
