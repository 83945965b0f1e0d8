package gossip

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"

	"github.com/volary/volary/head"
)

// stranger is a host that says on the topic whatever it likes.
type stranger struct {
	t     testing.TB
	p2p   host.Host
	topic *pubsub.Topic
}

// opened has an element for each stream to a peer: what is said before there is one goes nowhere.
type opened struct {
	tracer
	streams chan struct{}
}

func (o opened) OnNewOutboundStream(peer.ID, protocol.ID) { o.streams <- struct{}{} }

func newStranger(t testing.TB, to *member) *stranger {
	t.Helper()
	s := &stranger{t: t, p2p: listening(t)}
	ready := opened{tracer{miss: func(peer.ID) {}}, make(chan struct{}, 16)}
	ps := must(pubsub.NewGossipSub(t.Context(), s.p2p,
		pubsub.WithGossipSubProtocols(protocols, func(pubsub.GossipSubFeature, protocol.ID) bool { return true }),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID), pubsub.WithFloodPublish(true), pubsub.WithRawTracer(ready),
	))(t)
	s.topic = must(ps.Join(to.topicName()))(t)
	must(s.topic.Subscribe())(t)
	events := must(s.topic.EventHandler())(t)
	check(t, s.p2p.Connect(t.Context(), peer.AddrInfo{ID: to.p2p.ID(), Addrs: to.p2p.Addrs()}))
	must(events.NextPeerEvent(t.Context()))(t)
	<-ready.streams
	return s
}

func (s *stranger) say(data []byte) {
	s.t.Helper()
	check(s.t, s.topic.Publish(s.t.Context(), data))
}

// heardOnly looks that nothing was heard but of one volume.
func (h *member) heardOnly(of news) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		for _, b := range c.Bindings {
			if b.Volume != of.binding.Volume {
				h.t.Errorf("heard of %q", b.Name)
			}
		}
	}
}

func TestWhatIsNotSignedIsNotHeard(t *testing.T) {
	a := newMember(t, Options{})
	theirs := otherNamespace(t)
	n := volumeAt(t, ours(t), "data", 1, "a state")
	data := encoded(t, n)
	for i, bad := range [][]byte{
		data[:len(data)-1],
		encoded(t, volumeAt(t, theirs, "theirs", 2, "a state")),
		cborOf(t, wireNews{newsKind, volumeAt(t, ours(t), "forged", 1, "x").binding.Data, n.head.Record}),
		make([]byte, MaxNews+1),
	} {
		s := newStranger(t, a)
		s.say(bad)
		next := volumeAt(t, ours(t), "data", uint64(2+i), "after it")
		s.say(encoded(t, next))
		a.untilAt(next)
	}
	a.heardOnly(n)
}

// forgeries is how many messages that are not signed a peer may tell before it is not listened to.
const forgeries = 4

// noted has an element for each time that one thing is logged.
type noted struct {
	slog.Handler
	text  string
	times chan struct{}
}

func note(text string) (*slog.Logger, noted) {
	n := noted{slog.DiscardHandler, text, make(chan struct{}, 1024)}
	return slog.New(n), n
}

func (n noted) Enabled(context.Context, slog.Level) bool { return true }

func (n noted) Handle(_ context.Context, r slog.Record) error {
	if r.Message == n.text {
		n.times <- struct{}{}
	}
	return nil
}

// wait waits until that was logged as often.
func (n noted) wait(t testing.TB, times int) {
	t.Helper()
	over := time.After(wait)
	for range times {
		select {
		case <-n.times:
		case <-over:
			t.Fatalf("%q is not logged %d times", n.text, times)
		}
	}
}

func TestAPeerThatForgesIsNotListenedTo(t *testing.T) {
	log, refused := note("a peer told what is no news")
	a := newMember(t, Options{Log: log})
	s, honest := newStranger(t, a), newStranger(t, a)
	for i := range forgeries {
		s.say(fmt.Append(nil, i))
	}
	refused.wait(t, forgeries)
	// What it says at once can be heard before the last one counts.
	const later = 10
	for i := range later {
		s.say(encoded(t, volumeAt(t, ours(t), fmt.Sprint("refused", i), 1, "a state")))
		n := volumeAt(t, ours(t), fmt.Sprint("data", i), 1, "a state")
		honest.say(encoded(t, n))
		a.untilAt(n)
	}
	if vs := must(a.table.Volumes())(t); len(vs) > later+later/2 {
		t.Errorf("%d volumes of a peer that forges are known", len(vs)-later)
	}
}

// pour is a host that says things, beside GossipSub, which says nothing twice, until it is disconnected.
func pour(t *testing.T, to *member, what func(i int) []byte) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), wait)
	defer done()
	h := listening(t)
	check(t, h.Connect(ctx, peer.AddrInfo{ID: to.p2p.ID(), Addrs: to.p2p.Addrs()}))
	stream := must(h.NewStream(ctx, to.p2p.ID(), protocols...))(t)
	topic := to.topicName()
	for i := 0; ctx.Err() == nil; i++ {
		rpc := must(proto.Marshal(&pb.RPC{Publish: []*pb.Message{{Data: what(i), Topic: &topic}}}))(t)
		if _, err := stream.Write(append(binary.AppendUvarint(nil, uint64(len(rpc))), rpc...)); err != nil {
			break
		}
	}
	if _, err := h.NewStream(network.WithNoDial(ctx, "is it still connected"), to.p2p.ID(), protocols...); err == nil || ctx.Err() != nil {
		t.Fatal("still connected")
	}
}

func TestAPeerThatFloodsIsDisconnectedAndOthersAreHeard(t *testing.T) {
	known := volumeAt(t, ours(t), "known", 1, "a state")
	var many [100][]byte // made before, as signing takes longer than sending
	for i := range many {
		many[i] = encoded(t, volumeAt(t, ours(t), "many", 1, fmt.Sprint(i)))
	}
	for what, say := range map[string]func(i int) []byte{
		"what is not signed":   func(i int) []byte { return fmt.Append(nil, i) },
		"what is known":        func(int) []byte { return encoded(t, known) },
		"more than is allowed": func(i int) []byte { return many[i%len(many)] },
	} {
		t.Run(what, func(t *testing.T) {
			a := newMember(t, Options{Rate: 10, Burst: 20})
			a.know(known)
			pour(t, a, say)
			n := volumeAt(t, ours(t), "data", 1, "a state")
			newStranger(t, a).say(encoded(t, n))
			a.untilAt(n)
		})
	}
}

func TestWhatIsKnownIsNotHeardAgain(t *testing.T) {
	a := newMember(t, Options{})
	s := newStranger(t, a)
	known, next := volumeAt(t, ours(t), "data", 2, "a state"), volumeAt(t, ours(t), "other", 1, "another")
	a.know(known)
	s.say(encoded(t, known))
	known.head = head.Head{}
	s.say(encoded(t, known))
	s.say(encoded(t, next))
	a.untilAt(next)
	a.heardOnly(next)
}
