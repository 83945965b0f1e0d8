package gossip

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/head/flood"
)

// mostTold bounds the bytes of news that one peer may tell at once.
const mostTold = 256 << 20

// intake verifies what one peer tells, and hands over what is new. While one part is taken over, the next is read.
type intake struct {
	g    *Gossip
	from peer.ID
	news func() // called when something new came; may be nil

	gathered []news
	bytes    int
	pending  chan error // what comes of the part before; nil if there is none
	total    int        // what was new
	passed   [][]byte   // of it, what is passed on
}

// take reads a frame of news, and takes it.
func (in *intake) take(ctx context.Context, frame []byte) error {
	var n told
	if err := decodeFrame(frame, &n); err != nil {
		return err
	}
	return in.add(ctx, n.News)
}

// add takes what was in a frame of news.
func (in *intake) add(ctx context.Context, raw [][]byte) error {
	for _, r := range raw {
		in.bytes += len(r)
	}
	if in.bytes > mostTold {
		return fmt.Errorf("more than %d bytes of news: %w", mostTold, ErrFormat)
	}
	fresh, err := in.g.fresh(ctx, raw)
	if err != nil {
		if errors.Is(err, errNotNews) {
			in.g.guard.Charge(in.from, flood.Invalid)
		}
		return err
	}
	if in.gathered = append(in.gathered, fresh...); len(in.gathered) < heardAtOnce {
		return nil
	}
	return in.hand(ctx)
}

// hand hands over what was gathered.
func (in *intake) hand(ctx context.Context) error {
	if err := in.settle(ctx); err != nil || len(in.gathered) == 0 {
		return err
	}
	all, pending := in.gathered, make(chan error, 1)
	in.gathered, in.total = nil, in.total+len(all)
	if err := in.pass(all); err != nil {
		return err
	}
	select {
	case in.g.heard <- heard{all, pending}:
		in.pending = pending
		if in.news != nil {
			in.news()
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle waits until what was handed over is taken over.
func (in *intake) settle(ctx context.Context) error {
	if in.pending == nil {
		return nil
	}
	pending := in.pending
	in.pending = nil
	select {
	case err := <-pending:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush hands over the rest, and waits for it.
func (in *intake) flush(ctx context.Context) error {
	if err := in.hand(ctx); err != nil {
		return err
	}
	if in.total > 0 {
		defer in.g.index.expire()
	}
	return in.settle(ctx)
}

// pass has news wait to be passed on, before they are known, unless they are too many.
func (in *intake) pass(all []news) error {
	if in.total > mostRelayed {
		in.g.relay.drop(in.passed)
		in.passed = nil
		return nil
	}
	var messages [][]byte
	for _, n := range all {
		m, err := n.encode()
		if err != nil {
			return err
		}
		messages = append(messages, m)
	}
	in.passed = append(in.passed, messages...)
	in.g.relay.put(in.from, messages, time.Now().Add(relayAfter+upTo(relayAfter)))
	return nil
}

var errNotNews = errors.New("a peer told what is no news")

// fresh verifies messages, on all processors, and leaves out what is known.
func (g *Gossip) fresh(ctx context.Context, raw [][]byte) (all []news, _ error) {
	read := make([]*news, len(raw))
	errs := make([]error, len(raw))
	var work sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(raw))
	for w := range workers {
		work.Go(func() {
			for i := w; i < len(raw); i += workers {
				n, err := decodeNews(raw[i], g.verify)
				if err != nil {
					errs[i] = fmt.Errorf("%w: %w", errNotNews, err)
					return
				}
				known, err := g.o.Known.Knows(ctx, n.head, n.binding)
				if errs[i] = err; err == nil && !known {
					read[i] = &n
				}
			}
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, n := range read {
		if n != nil {
			all = append(all, *n)
		}
	}
	return all, nil
}
