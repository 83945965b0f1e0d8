package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/publish"
)

const headsFile = "heads.db"

// heads joins volumes with those of the other hosts of the namespace. It is closed with lazyVolumes, or else with the process.
func (h *home) heads(o volume.Options) (volume.Heads, error) {
	ns, _, err := h.namespace()
	if err != nil {
		return nil, err
	}
	t, err := table.Open(h.path(headsFile), publish.History(o.Blocks))
	if err != nil {
		return nil, err
	}
	if err := t.Claim(ns.ID()); err != nil {
		return nil, errors.Join(h.otherNamespace(err), t.Close())
	}
	p := publish.Options{Namespace: ns, Table: t, Begin: o.Begin, Blocks: o.Blocks, Pins: o.Pins, Author: o.Author}
	if h.remote.cluster != nil {
		p.Send = h.remote.sendHead
	}
	h.known, h.told = t, publish.New(p)
	if h.remote.cluster != nil {
		h.remote.heads, h.remote.refreshed = h.told, newRefresher()
	}
	return h.told, nil
}

// otherNamespace says what to do about a namespace file that is not the one that the host's volumes are of.
func (h *home) otherNamespace(err error) error {
	if !errors.Is(err, table.ErrNamespace) {
		return err
	}
	return fmt.Errorf("%s is not the one that %s was made with: %w: %w\nput it back from a copy, or write into it what `volary token` prints on another host of that namespace;\na host joins another one with a state directory of its own: `volary init --join`",
		h.path(namespaceFile), headsFile, store.ErrCorrupt, err)
}

const (
	refreshEvery  = 30 * time.Second       // when nobody asks
	refreshAtMost = 10                     // times as long as it took lie between two times, whoever asks
	refreshRest   = 200 * time.Millisecond // and this at least
	refreshTime   = 5 * time.Second        // that who asks waits
	followTime    = 2 * time.Minute        // that it may take when nobody waits
)

// refresher remembers when the pins of the cluster were read last. It must be made by newRefresher.
type refresher struct {
	turn chan struct{} // has an element while they are read; it guards the rest
	next time.Time     // before it they are not read again
	err  error         // of it
}

func newRefresher() *refresher { return &refresher{turn: make(chan struct{}, 1)} }

// refresh learns from the cluster where other hosts' volumes are, unless that was tried a moment ago: then it says what
// came of it. What was learned when the time is over stays.
func (r *remote) refresh(ctx context.Context) error { return r.refreshWithin(ctx, refreshTime) }

func (r *remote) refreshWithin(ctx context.Context, most time.Duration) error {
	if r.heads == nil {
		return nil
	}
	limited, done := context.WithTimeout(ctx, most)
	defer done()
	select {
	case r.refreshed.turn <- struct{}{}:
		defer func() { <-r.refreshed.turn }()
	case <-limited.Done():
		return limited.Err()
	}
	began := time.Now()
	if began.Before(r.refreshed.next) {
		return r.refreshed.err
	}
	err := r.learn(limited, r.cluster.All(limited))
	if ctx.Err() == nil {
		r.refreshed.next = time.Now().Add(min(max(refreshRest, refreshAtMost*time.Since(began)), refreshTime))
		r.refreshed.err = err
	}
	return err
}

// learn learns from the cluster's pins, and remembers how many were not believed.
func (r *remote) learn(ctx context.Context, pins iter.Seq2[pinset.Pin, error]) error {
	_, refused, err := r.heads.Learn(ctx, pins)
	if err == nil {
		r.refused.Store(int64(refused))
	}
	return err
}

// follow learns again and again what other hosts did to volumes, until ctx is done, and tells them what they were not
// told. hear takes over what was learned.
func (r *remote) follow(ctx context.Context, hear func(context.Context) error, log *slog.Logger) {
	if r.heads == nil {
		return
	}
	failing := false
	for {
		err := r.refreshWithin(ctx, followTime)
		if err == nil {
			err = r.heads.Flush(ctx)
		}
		if err == nil {
			err = hear(ctx)
		}
		if err != nil && ctx.Err() == nil && !failing {
			log.Warn("cannot learn where other hosts' volumes are", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(refreshEvery):
		}
	}
}
