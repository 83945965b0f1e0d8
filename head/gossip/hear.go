package gossip

import (
	"context"
	"time"
)

// heard is what was told at once. done, unless nil, is given what came of it.
type heard struct {
	news []news
	done chan<- error
}

// hear gives what others told to Hear, several messages at a time, until ctx is done.
func (g *Gossip) hear(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-g.heard:
			batch := g.gather(ctx, first)
			var all []news
			for _, h := range batch {
				all = append(all, h.news...)
			}
			err := g.o.Hear(ctx, together(all))
			if err != nil && ctx.Err() == nil {
				g.log.Warn("cannot take over what other hosts told", "error", err)
			}
			for _, h := range batch {
				switch {
				case h.done != nil:
					h.done <- err
				case err != nil:
					g.missed.add("")
				}
			}
		}
	}
}

// gather waits a moment for more, but not if somebody waits for what was told.
func (g *Gossip) gather(ctx context.Context, first heard) []heard {
	batch, n := []heard{first}, len(first.news)
	moment := coalesce
	if first.done != nil {
		moment = 0
	}
	over := time.NewTimer(moment)
	defer over.Stop()
	for n < heardAtOnce {
		select {
		case h := <-g.heard:
			batch, n = append(batch, h), n+len(h.news)
		case <-over.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}
