package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	exchangeProtocol = protocol.ID("/volary/heads/1")
	// exchangeTime is how long two hosts may take to tell each other all.
	exchangeTime = 2 * time.Minute
	// asked is how many peers may ask at a time, and answered how many of them are told more than a greeting.
	asked    = 32
	answered = 4
	// costAsked is how many messages it counts for when a peer asks.
	costAsked = 10
)

var (
	errBusy      = errors.New("the peer is busy")
	errNamespace = errors.New("the peer is in another namespace")
)

// exchange tells a peer what it lacks, and hears from it what this host lacks.
func (g *Gossip) exchange(ctx context.Context, o *outcome) error {
	ctx, done := context.WithTimeout(ctx, exchangeTime)
	defer done()
	s, err := g.h.NewStream(network.WithNoDial(ctx, "exchange heads"), o.p, exchangeProtocol)
	if err == nil {
		err = g.ask(ctx, s, o)
		closeStream(s, err)
	}
	if err != nil {
		return fmt.Errorf("exchange heads with %s: %w", o.p, err)
	}
	return nil
}

func closeStream(s network.Stream, err error) {
	if err != nil && !errors.Is(err, errBusy) && !errors.Is(err, errNamespace) {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// ask is the side of the one who began.
func (g *Gossip) ask(ctx context.Context, s network.Stream, o *outcome) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	x, lacks, err := g.index.get()
	if err != nil {
		return err
	}
	o.lacks = lacks
	w, in := wire{s}, &intake{g: g, from: s.Conn().RemotePeer(), news: g.stillAsking}
	defer func() { o.heard = in.total }()
	if err := w.write(&hello{Kind: kindHello, Namespace: g.o.Namespace.ID(), Root: x.root[:]}); err != nil {
		return err
	}
	var theirs hello
	switch err := w.read(&theirs); {
	case err != nil:
		return err
	case theirs.Namespace != g.o.Namespace.ID():
		return errNamespace
	case theirs.Busy:
		return errBusy
	case bytes.Equal(theirs.Root, x.root[:]) || len(theirs.Buckets) == 0:
		return nil
	}
	for _, r := range x.ranges(theirs.Buckets) {
		n, err := g.compare(ctx, w, in, x, r)
		if o.told += n; err != nil {
			return err
		}
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if err := in.flush(ctx); err != nil {
		return err
	}
	if _, err := w.next(); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("the peer did not take over all"), err)
	}
	return nil
}

// compare says what volumes this host has in a range, hears of those that are not among them, and tells what is wanted.
func (g *Gossip) compare(ctx context.Context, w wire, in *intake, x *index, r have) (sent int, _ error) {
	if err := w.write(&r); err != nil {
		return 0, err
	}
	for {
		data, err := w.next()
		if err != nil {
			return 0, err
		}
		if dagcbor.HasKind(data, kindNews) {
			if err := in.take(ctx, data); err != nil {
				return 0, err
			}
			continue
		}
		var wanted want
		if err := decodeFrame(data, &wanted); err != nil {
			return 0, err
		}
		states, err := set(wanted.States)
		if err != nil {
			return 0, err
		}
		return g.tellOf(w, x.between(r.From, r.To), func(e entry) bool { return states[e.state] })
	}
}

func set(data []byte) (map[digest]bool, error) {
	all, err := digests(data)
	in := make(map[digest]bool, len(all))
	for _, d := range all {
		in[d] = true
	}
	return in, err
}

// ranges are the places in which something is different, in order, none with many more volumes than haveInFrame.
func (x *index) ranges(theirs []byte) (all []have) {
	differ := func(i int) bool {
		return !bytes.Equal(x.buckets[i][:], theirs[i*digestSize:][:digestSize])
	}
	for i := 0; i < buckets; i++ {
		if !differ(i) {
			continue
		}
		first := i
		for i+1 < buckets && differ(i+1) {
			i++
		}
		from, to := span(first, i)
		in := x.between(from, to)
		for len(in) > haveInFrame {
			n := haveInFrame
			for n < len(in) && in[n].place == in[n-1].place {
				n++
			}
			all = append(all, haveOf(from, in[n-1].place, in[:n]))
			from, in = in[n-1].place+1, in[n:]
		}
		all = append(all, haveOf(from, to, in))
	}
	return all
}

func haveOf(from, to uint64, in []entry) have {
	h := have{Kind: kindHave, From: from, To: to, States: make([]byte, 0, len(in)*digestSize)}
	for _, e := range in {
		h.States = append(h.States, e.state[:]...)
	}
	return h
}

// tellOf sends what is known of some volumes.
func (g *Gossip) tellOf(w wire, in []entry, some func(entry) bool) (sent int, _ error) {
	frame, size := told{Kind: kindNews}, 0
	for _, e := range in {
		if !some(e) {
			continue
		}
		messages, err := g.messages(e.volume)
		if err != nil {
			return sent, err
		}
		for _, m := range messages {
			if size+len(m) > newsInFrame {
				if err := w.write(&frame); err != nil {
					return sent, err
				}
				frame.News, size = nil, 0
			}
			frame.News, size, sent = append(frame.News, m), size+len(m)+3, sent+1
		}
	}
	if len(frame.News) == 0 {
		return sent, nil
	}
	return sent, w.write(&frame)
}

// messages are all that is known of a volume.
func (g *Gossip) messages(volume ipns.Name) (all [][]byte, _ error) {
	v, err := g.o.Known.Volume(volume)
	if errors.Is(err, table.ErrUnknown) || err == nil && v.Binding.Data == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	each := []news{{binding: v.Binding}}
	if tips := v.Tips(); len(tips) > 0 {
		each = nil
		for _, tip := range tips {
			each = append(each, news{v.Binding, tip})
		}
	}
	for _, n := range each {
		data, err := n.encode()
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}
