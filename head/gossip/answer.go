package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/snapshot/dagcbor"
)

// serve answers peers who ask, until ctx is done.
func (g *Gossip) serve(ctx context.Context) {
	g.h.SetStreamHandler(exchangeProtocol, func(s network.Stream) {
		from := s.Conn().RemotePeer()
		if !g.enter(from) {
			_ = s.Reset()
			return
		}
		defer g.leave(from)
		if !g.guard.Charge(from, costAsked) {
			_ = s.Reset()
			return
		}
		limited, done := context.WithTimeout(ctx, exchangeTime)
		defer done()
		o := outcome{p: from, began: time.Now()}
		o.err = g.answer(limited, s, &o)
		closeStream(s, o.err)
		g.exchanged(ctx, o)
	})
}

// enter counts a peer among those that are answered, unless it is one already, or there are too many, or all is over.
func (g *Gossip) enter(p peer.ID) bool {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.closed || g.asked[p] || len(g.asked) == asked {
		return false
	}
	g.asked[p] = true
	g.work.Add(1)
	return true
}

func (g *Gossip) leave(p peer.ID) {
	g.closing.Lock()
	defer g.closing.Unlock()
	delete(g.asked, p)
	g.work.Done()
}

// answer is the side of the one who was asked.
func (g *Gossip) answer(ctx context.Context, s network.Stream, o *outcome) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	w := wire{s}
	var theirs hello
	if err := w.read(&theirs); err != nil {
		return err
	}
	x, lacks, err := g.index.get()
	if err != nil {
		return err
	}
	o.lacks = lacks
	ours := hello{Kind: kindHello, Namespace: g.o.Namespace.ID(), Root: x.root[:]}
	switch {
	case theirs.Namespace != ours.Namespace:
		return errors.Join(errNamespace, w.write(&ours))
	case bytes.Equal(theirs.Root, ours.Root):
		return w.write(&ours)
	}
	if !g.mayAnswer() {
		ours.Busy = true
		return errors.Join(errBusy, w.write(&ours))
	}
	defer func() { <-g.answering }()
	for _, b := range x.buckets {
		ours.Buckets = append(ours.Buckets, b[:]...)
	}
	if err := w.write(&ours); err != nil {
		return err
	}
	in := &intake{g: g, from: s.Conn().RemotePeer()}
	o.told, err = g.answerAll(ctx, w, in, x)
	o.heard = in.total
	return err
}

// mayAnswer takes one of the few places for those who are told more than a greeting. While this host asks another one,
// and hears what is new, nobody gets one: it is about to hear all that anybody would tell.
func (g *Gossip) mayAnswer() bool {
	if heard := g.asking.Load(); heard != nil && time.Since(*heard) < later {
		return false
	}
	select {
	case g.answering <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g *Gossip) answerAll(ctx context.Context, w wire, in *intake, x *index) (sent int, _ error) {
	next, over := uint64(0), false
	for {
		data, err := w.next()
		if errors.Is(err, io.EOF) {
			return sent, in.flush(ctx)
		}
		if err != nil {
			return sent, err
		}
		if dagcbor.HasKind(data, kindNews) {
			if err := in.take(ctx, data); err != nil {
				return sent, err
			}
			continue
		}
		var r have
		if err := decodeFrame(data, &r); err != nil {
			return sent, err
		}
		if over || r.From < next {
			return sent, fmt.Errorf("places are compared twice: %w", ErrFormat)
		}
		next, over = r.To+1, r.To+1 == 0
		n, err := g.answerRange(w, x, r)
		if sent += n; err != nil {
			return sent, err
		}
	}
}

// answerRange tells of the volumes in a range whose state the other one has not, and says which of its it wants.
func (g *Gossip) answerRange(w wire, x *index, r have) (sent int, _ error) {
	theirs, err := set(r.States)
	if err != nil {
		return 0, err
	}
	ours := x.between(r.From, r.To)
	if sent, err = g.tellOf(w, ours, func(e entry) bool { return !theirs[e.state] }); err != nil {
		return sent, err
	}
	for _, e := range ours {
		delete(theirs, e.state)
	}
	wanted := want{Kind: kindWant}
	for d := range theirs {
		wanted.States = append(wanted.States, d[:]...)
	}
	return sent, w.write(&wanted)
}
