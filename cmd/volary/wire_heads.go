package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/publish"
)

const headsFile = "heads.db"

// heads joins volumes with those of the other hosts of the namespace. The table is closed with the process.
func (h *home) heads(o volume.Options) (volume.Heads, error) {
	ns, _, err := h.namespace()
	if err != nil {
		return nil, err
	}
	t, err := table.Open(h.path(headsFile), publish.History(o.Blocks))
	if err != nil {
		return nil, err
	}
	p := publish.Options{Namespace: ns, Table: t, Begin: o.Begin, Blocks: o.Blocks, Pins: o.Pins, Author: o.Author}
	if h.remote.cluster == nil {
		return publish.New(p), nil
	}
	p.Send = h.remote.sendHead
	h.remote.heads = publish.New(p)
	return h.remote.heads, nil
}

const (
	refreshEvery  = 30 * time.Second // when nobody asks
	refreshAtMost = 2 * time.Second  // between two times, whoever asks
	refreshTime   = 5 * time.Second  // that who asks waits
)

// refresher remembers when the pins of the cluster were read last.
type refresher struct {
	mu   sync.Mutex
	last time.Time
	err  error // of it
}

// refresh learns from the cluster where other hosts' volumes are, unless it tried a moment ago: then it says what came
// of that.
func (r *remote) refresh(ctx context.Context) error {
	if r.heads == nil {
		return nil
	}
	r.refreshed.mu.Lock()
	defer r.refreshed.mu.Unlock()
	if time.Since(r.refreshed.last) < refreshAtMost {
		return r.refreshed.err
	}
	limited, done := context.WithTimeout(ctx, refreshTime)
	defer done()
	_, _, err := r.heads.Learn(limited, r.cluster.All(limited))
	if ctx.Err() == nil {
		r.refreshed.last, r.refreshed.err = time.Now(), err
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
		err := r.refresh(ctx)
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
