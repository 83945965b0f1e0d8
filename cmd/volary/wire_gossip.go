package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/volary/volary/head/gossip"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/p2p"
)

const (
	// takeOverRest lies between two times that what others did is taken over, of whatever they do.
	takeOverRest = time.Second
	settleEvery  = 30 * time.Second
)

// gossiping has a host tell the others of its namespace what it does to volumes, and hear what they do, until the
// function it returns is called. Takeover takes over what was heard.
func (h *home) gossiping(ctx context.Context, host *p2p.Host, takeOver func(context.Context) error, log *slog.Logger) (down func() error, _ error) {
	ns, _, err := h.namespace()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	heard := make(chan struct{}, 1)
	g, err := gossip.New(ctx, host.Libp2p(), gossip.Options{
		Namespace: ns, Known: h.known, Log: log,
		Hear: func(ctx context.Context, news table.News) error {
			moved, err := h.told.Hear(ctx, news)
			if moved > 0 {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
			return err
		},
	})
	if err != nil {
		stop()
		return nil, err
	}
	var work sync.WaitGroup
	work.Go(func() {
		err := h.told.Own(ctx, func(news table.News) error {
			if err := g.Publish(ctx, news); err != nil && ctx.Err() == nil {
				log.Warn("other hosts are not told yet what this one did", "error", err)
			}
			return ctx.Err()
		})
		if err != nil && ctx.Err() == nil {
			log.Error("other hosts are not told what this one does", "error", err)
		}
	})
	work.Go(func() { takeOverAgain(ctx, heard, takeOver, log) })
	work.Go(func() { h.settleAgain(ctx, log) })
	return func() error {
		stop()
		err := g.Close()
		work.Wait()
		return err
	}, nil
}

// takeOverAgain takes over what was heard, whenever there is something, until ctx is done.
func takeOverAgain(ctx context.Context, heard <-chan struct{}, takeOver func(context.Context) error, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-heard:
		}
		if err := takeOver(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			log.Warn("cannot take over what other hosts did", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(takeOverRest):
		}
	}
}

// settleAgain looks again and again at what counts as a fork until its history is here.
func (h *home) settleAgain(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(settleEvery):
		}
		if err := h.told.Settle(ctx); err != nil && ctx.Err() == nil {
			log.Warn("cannot say what is a fork", "error", err)
		}
	}
}
