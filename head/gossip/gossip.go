// Package gossip carries the heads and names of a namespace's volumes between its hosts: what one publishes all others
// hear within a moment, and what was missed is made up for.
//
// Start with [New]: it joins the host to the namespace's topic. [Gossip.Publish] tells others what this host did;
// Options.Hear is given what they tell.
//
// It guarantees: what is heard was signed by the namespace and by the volume; what comes from a peer is bounded in size
// and number before it is looked at, and a peer that sends too much, or what is not signed, is no longer listened to.
package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/ipns"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/flood"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
)

// Known is what this host knows: a [table.Table]. All methods are safe for concurrent use and do not wait for the
// network.
type Known interface {
	// Volume returns what is known of a volume. The error wraps table.ErrUnknown.
	Volume(volume ipns.Name) (table.Volume, error)
	// Volumes returns all volumes, in any order.
	Volumes() ([]table.Volume, error)
	// Knows reports whether a binding, and a head of its volume unless it is zero, say nothing new.
	Knows(ctx context.Context, h head.Head, b namespace.Binding) (bool, error)
	// Revision is another number whenever what is known has changed.
	Revision() (uint64, error)
}

var _ Known = (*table.Table)(nil)

// Options of Gossip. Namespace, Known and Hear are required.
type Options struct {
	Namespace *namespace.Namespace
	Known     Known
	// Hear takes over what others told, verified. It is called from one goroutine, with a few hundred heads at
	// most. After an error the same is told again later.
	Hear func(ctx context.Context, news table.News) error
	Log  *slog.Logger // nil discards

	// Rate and Burst say how many messages a peer may send in a second, and at once after it was silent:
	// flood.DefaultRate and flood.DefaultBurst unless set.
	Rate, Burst int
	Every       time.Duration // between two exchanges of all that is known; DefaultEvery if zero
}

const (
	// heardAtOnce is from how many heads on it is not waited for more before Hear is called, coalesce how long it is.
	heardAtOnce = 256
	coalesce    = 5 * time.Millisecond
)

// Gossip is a host among those of its namespace. It must be made by New; all methods are safe for concurrent use.
type Gossip struct {
	o      Options
	h      host.Host
	log    *slog.Logger
	verify func([]byte) (namespace.Binding, error)
	guard  *flood.Guard
	topic  *pubsub.Topic
	index  *keptIndex
	relay  *relay
	heard  chan heard

	met       chan outcome          // of exchanges that others began, and that went well
	onTopic   chan pubsub.PeerEvent // who came and who left
	missed    *missed
	asking    atomic.Pointer[time.Time] // when this host, which asks another one, was told something last; nil if it does not ask
	answering chan struct{}             // has an element for each that is told more than a greeting

	end     context.CancelFunc
	work    sync.WaitGroup
	closing sync.Mutex // guards what follows, and that no work begins once it is closed
	closed  bool
	asked   map[peer.ID]bool // peers that are answered
}

// New joins a host to the others of the namespace that it is, or will be, connected to. It ends with Close, or with ctx.
func New(ctx context.Context, h host.Host, o Options) (*Gossip, error) {
	if o.Namespace == nil || o.Known == nil || o.Hear == nil {
		return nil, errors.New("gossip wants a namespace, what is known and who hears")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gossip{
		o: o, h: h, log: o.Log, verify: o.Namespace.Remembering(), heard: make(chan heard),
		index: &keptIndex{known: o.Known}, met: make(chan outcome), onTopic: make(chan pubsub.PeerEvent), missed: newMissed(), answering: make(chan struct{}, answered),
		asked: map[peer.ID]bool{}, relay: newRelay(),
		guard: flood.New(flood.Options{Network: h.Network(), Rate: o.Rate, Burst: o.Burst, Log: o.Log}),
	}
	g.o.Every = cmp.Or(o.Every, DefaultEvery)
	ctx, g.end = context.WithCancel(ctx)
	if err := g.join(ctx); err != nil {
		g.end()
		g.work.Wait()
		return nil, fmt.Errorf("join the hosts of namespace %s: %w", o.Namespace.ID(), err)
	}
	return g, nil
}

// join begins all work.
func (g *Gossip) join(ctx context.Context) error {
	events, err := g.h.EventBus().Subscribe([]any{&event.EvtPeerIdentificationCompleted{}, &event.EvtPeerProtocolsUpdated{}})
	if err != nil {
		return err
	}
	if err := g.joinTopic(ctx); err != nil {
		return errors.Join(err, events.Close())
	}
	g.serve(ctx)
	g.work.Go(func() { g.hear(ctx) })
	g.work.Go(func() { g.passOn(ctx) })
	g.work.Go(func() { g.guard.Run(ctx) })
	g.work.Go(func() { g.keepUp(ctx, events) })
	return nil
}

// Close leaves the others. Hear is not called any more once it returns.
func (g *Gossip) Close() error {
	g.closing.Lock()
	g.closed = true
	g.closing.Unlock()
	g.end()
	for _, p := range append([]protocol.ID{exchangeProtocol}, protocols...) {
		g.h.RemoveStreamHandler(p)
	}
	g.work.Wait()
	return nil
}

// Publish tells the others heads and bindings that are in Known. It does not wait until they heard: whoever is not
// connected now is told later.
func (g *Gossip) Publish(ctx context.Context, told table.News) error {
	bindings := map[ipns.Name]namespace.Binding{}
	for _, b := range told.Bindings {
		bindings[b.Volume] = b
	}
	var all []news
	for _, h := range told.Heads {
		b, ok := bindings[h.Volume]
		if !ok {
			v, err := g.o.Known.Volume(h.Volume)
			if err != nil {
				return fmt.Errorf("publish %s: %w", h.Commit, err)
			}
			b = v.Binding
		}
		all = append(all, news{b, h})
		delete(bindings, h.Volume)
	}
	for _, b := range told.Bindings {
		if _, alone := bindings[b.Volume]; alone {
			all = append(all, news{binding: b})
		}
	}
	for _, n := range all {
		data, err := n.encode()
		if err == nil {
			err = g.topic.Publish(ctx, data)
		}
		if err != nil {
			return fmt.Errorf("publish %q: %w", n.binding.Name, err)
		}
	}
	return nil
}
