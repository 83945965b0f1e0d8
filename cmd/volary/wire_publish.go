package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/head/published"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p"
	"github.com/volary/volary/volume"
)

// publishAgain lies between two times that it is looked which volumes are to be published.
const publishAgain = 10 * time.Second

// publishing has a host tell any IPFS program that it is connected to where those volumes are that have the option for
// that, until the function it returns is called.
func (h *home) publishing(ctx context.Context, host *p2p.Host, volumes *volume.Manager, log *slog.Logger) (end func() error, _ error) {
	ns, _, err := h.namespace()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	p, err := published.New(ctx, host.Libp2p(), published.Options{Log: log, Known: func(v ipns.Name) bool {
		_, err := h.known.Volume(v)
		return err == nil
	}})
	if err != nil {
		stop()
		return nil, err
	}
	k := publisher{home: h, ns: ns, Publisher: p, volumes: volumes, log: log, all: map[ipns.Name]bool{}}
	var work sync.WaitGroup
	work.Go(func() { k.run(ctx) })
	return func() error {
		stop()
		work.Wait()
		return p.Close()
	}, nil
}

// publisher publishes the volumes of a host that are to be.
type publisher struct {
	*published.Publisher
	home    *home
	ns      *namespace.Namespace
	volumes *volume.Manager
	log     *slog.Logger
	all     map[ipns.Name]bool // that are published
}

// run publishes every new head of them until ctx is done, and looks now and then which they are.
func (k *publisher) run(ctx context.Context) {
	w := k.home.known.Watch()
	defer w.Close()
	for ctx.Err() == nil {
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("cannot say which volumes are to be published", "error", err)
		}
		limited, done := context.WithTimeout(ctx, publishAgain)
		for {
			c, err := w.Next(limited)
			if err != nil || c.Missed {
				break
			}
			if k.all[c.Volume] {
				k.put(ctx, c.Volume)
			}
		}
		done()
	}
}

// look finds out which volumes are to be published.
func (k *publisher) look(ctx context.Context) error {
	now, err := publishedVolumes(k.volumes)
	if err != nil {
		return err
	}
	for name := range now {
		k.put(ctx, name)
	}
	for name := range k.all {
		if now[name] {
			continue
		}
		if err := k.Drop(name); err != nil {
			k.log.Warn("a volume is published still", "volume", name, "error", err)
		}
	}
	k.all = now
	return nil
}

// put publishes where a volume is; where it was before is known to be older.
func (k *publisher) put(ctx context.Context, name ipns.Name) {
	if err := k.tryPut(ctx, name); err != nil && ctx.Err() == nil {
		k.log.Warn("a volume is not published", "volume", name, "error", err)
	}
}

func (k *publisher) tryPut(ctx context.Context, name ipns.Name) error {
	v, err := k.home.known.Volume(name)
	if err != nil || v.Binding.Data == nil || v.Head.Record == nil {
		return err
	}
	key, err := k.ns.Key(v.Binding)
	if err != nil {
		return err
	}
	return k.Put(ctx, key, v.Head)
}
