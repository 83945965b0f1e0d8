// Package published tells any IPFS program where volumes are, by IPNS over PubSub (specs.ipfs.tech/ipns/ipns-pubsub-router):
// a Kubo daemon with Ipns.UsePubsub that is connected resolves /ipns/VOLUME to the files.
//
// Start with [New]; [Publisher.Put] publishes a head, and keeps it published until there is a newer one or [Publisher.Drop].
//
// It guarantees: what is published is the head that was put, no fork, with an end of life that is never more than the
// lifetime away, in a copy that is replaced before it is over; what comes from a peer is bounded before it is read, in
// size and number, and a peer that sends too much, or what is not signed, is no longer listened to.
package published

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/flood"
)

const (
	// DefaultLifetime is how long a copy is good for at most.
	DefaultLifetime = 24 * time.Hour
	// DefaultEvery is the time between two times that a copy is told.
	DefaultEvery = 10 * time.Minute
)

// Options of a Publisher. The zero value is useful.
type Options struct {
	// Known reports whether there is such a volume; of others it is not remembered who subscribes to them. It must not
	// wait for the Publisher. Nil: it is remembered of all, without a bound.
	Known    func(volume ipns.Name) bool
	Lifetime time.Duration // of a copy; DefaultLifetime if zero
	Every    time.Duration // between two times that a copy is told; DefaultEvery if zero
	Log      *slog.Logger  // nil discards

	// Rate and Burst say how many messages a peer may send in a second, and at once after it was silent:
	// flood.DefaultRate, and a burst that has room for a host with many volumes, unless set.
	Rate, Burst int
}

// Publisher publishes volumes. It must be made by New; all methods are safe for concurrent use.
type Publisher struct {
	o     Options
	h     host.Host
	ps    *pubsub.PubSub
	guard *flood.Guard
	end   context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	volumes map[ipns.Name]*volume
	closed  bool
}

// volume is one that is published.
type volume struct {
	key   crypto.PrivKey
	head  head.Head
	copy  head.Head
	topic *pubsub.Topic
	leave pubsub.RelayCancelFunc
}

// New makes a host one that publishes. Nothing is published yet.
func New(ctx context.Context, h host.Host, o Options) (*Publisher, error) {
	if o.Lifetime == 0 {
		o.Lifetime = DefaultLifetime
	}
	if o.Every == 0 {
		o.Every = DefaultEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{o: o, h: h, volumes: map[ipns.Name]*volume{}}
	p.guard = flood.New(flood.Options{Network: h.Network(), Rate: o.Rate, Burst: cmp.Or(o.Burst, burst), Log: o.Log})
	ctx, p.end = context.WithCancel(ctx)
	var err error
	if p.ps, err = p.newPubSub(ctx); err != nil {
		p.end()
		return nil, fmt.Errorf("join IPNS over PubSub: %w", err)
	}
	h.SetStreamHandler(fetchProtocol, p.serveFetch)
	p.work.Go(func() { p.renew(ctx) })
	p.work.Go(func() { p.guard.Run(ctx) })
	return p, nil
}

// Close ends what is published: copies that others have stay good until their time is over.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.h.RemoveStreamHandler(fetchProtocol)
	p.work.Wait()
	return nil
}

// Put publishes a head from now on, in place of an older one; key is that of the volume. A fork is not published: the
// head that won over it is somewhere.
func (p *Publisher) Put(ctx context.Context, key crypto.PrivKey, h head.Head) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("publish: closed")
	}
	v := p.volumes[h.Volume]
	if h.IsFork() || v != nil && head.Compare(h, v.head) <= 0 {
		return nil
	}
	copied, err := h.Copy(key, p.until(time.Now()))
	if err != nil {
		return err
	}
	if v == nil {
		if v, err = p.open(h.Volume); err != nil {
			return fmt.Errorf("publish %s: %w", h.Volume, err)
		}
		p.volumes[h.Volume] = v
	}
	v.key, v.head, v.copy = key, h, copied
	if err := v.topic.Publish(ctx, copied.Record); err != nil {
		return fmt.Errorf("publish %s: %w", h.Volume, err)
	}
	return nil
}

// Drop has a volume not be published any more.
func (p *Publisher) Drop(name ipns.Name) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[name]
	if v == nil {
		return nil
	}
	delete(p.volumes, name)
	v.leave()
	return errors.Join(p.ps.UnregisterTopicValidator(topicOf(name)), v.topic.Close())
}

// until is the end of life of a copy made now. Hosts whose clocks agree by and large make the same copy.
func (p *Publisher) until(now time.Time) time.Time {
	step := max(p.o.Lifetime/4, time.Second)
	return now.UTC().Truncate(step).Add(p.o.Lifetime)
}

// renew tells all copies again, and replaces those of which less than half is left, until ctx is done.
func (p *Publisher) renew(ctx context.Context) {
	tick := time.NewTicker(p.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.tellAgain(ctx, time.Now()) // which can be later than the tick
		}
	}
}

func (p *Publisher) tellAgain(ctx context.Context, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, v := range p.volumes {
		if v.copy.EndOfLife.Sub(now) < p.o.Lifetime/2 {
			copied, err := v.head.Copy(v.key, p.until(now))
			if err != nil {
				p.o.Log.Warn("cannot renew a published volume", "volume", name, "error", err)
				continue
			}
			v.copy = copied
		}
		if err := v.topic.Publish(ctx, v.copy.Record); err != nil && ctx.Err() == nil {
			p.o.Log.Warn("cannot publish a volume", "volume", name, "error", err)
		}
	}
}
