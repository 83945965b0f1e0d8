package exchange

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// want is a block that somebody waits for, once for all who do. Its fields are under Exchange.mu, block once done is
// closed excepted.
type want struct {
	c       cid.Cid
	wishes  int
	urgent  bool             // somebody waits for this one before all others
	asked   map[*remote]bool // who said they lack it
	lied    []*remote        // who sent something else
	names   map[string]bool  // of all who were asked
	flights int              // requests for it that are under way
	last    *remote          // who was asked last
	since   time.Time        // when
	swapped bool             // bitswap looks for it
	behind  bool             // Options.Behind is asked for it
	later   time.Time        // when that can be asked again
	said    error            // what it said
	done    chan struct{}    // closed when block is there
	block   blocks.Block
	gone    chan struct{} // closed when nobody wants it any more
}

// refuses reports whether a peer said that it lacks the block, or does not know it.
func (w *want) refuses(r *remote) bool { return w.asked[r] || slices.Contains(w.lied, r) }

// wish is one caller's part in a want. It is dropped by who made it.
type wish struct {
	x    *Exchange
	w    *want
	err  error
	made time.Time
}

// wish begins to look for a block.
func (x *Exchange) wish(c cid.Cid) *wish {
	if err := askable(c); err != nil {
		return &wish{err: err}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return &wish{err: ErrClosed}
	}
	w := x.wants[c]
	if w == nil {
		w = &want{c: c, asked: map[*remote]bool{}, names: map[string]bool{}, done: make(chan struct{}), gone: make(chan struct{})}
		x.wants[c] = w
		x.queue = append(x.queue, w)
	}
	w.wishes++
	return &wish{x: x, w: w, made: time.Now()}
}

// now returns the block if it is there, and has it looked for before all others if not.
func (s *wish) now() blocks.Block {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	if s.w.block == nil {
		s.w.urgent = true
		s.x.dispatch()
	}
	return s.w.block
}

// wait returns the block, or why it did not come. Where the one before did not come, the time for that one counts for
// this one as well.
func (s *wish) wait(ctx context.Context, after bool) (blocks.Block, error) {
	if s.err != nil {
		return nil, s.err
	}
	if err := ctx.Err(); err != nil && context.Cause(ctx) != context.DeadlineExceeded {
		return nil, err
	}
	if b := s.now(); b != nil {
		return b, nil
	}
	var timeout <-chan time.Time
	if _, bounded := ctx.Deadline(); !bounded {
		wait := s.x.o.Timeout
		if after {
			wait = max(time.Until(s.made.Add(wait)), s.x.o.Hedge)
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-s.w.done:
		return s.w.block, nil
	case <-timeout:
	case <-ctx.Done():
		if context.Cause(ctx) != context.DeadlineExceeded {
			return nil, fmt.Errorf("get block %s: %w", s.w.c, ctx.Err())
		}
	case <-s.x.ctx.Done():
		return nil, fmt.Errorf("get block %s: %w", s.w.c, ErrClosed)
	}
	select {
	case <-s.w.done: // at the last moment
		return s.w.block, nil
	default:
	}
	return nil, fmt.Errorf("get block %s: %w within %s; %s", s.w.c, snapshot.ErrNotFetched,
		time.Since(s.made).Round(time.Millisecond), s.x.whoWasAsked(s.w))
}

func (x *Exchange) whoWasAsked(w *want) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	said := ""
	if w.said != nil {
		said = "; " + w.said.Error()
	}
	if len(w.names) == 0 {
		return "no peer is connected that could be asked" + said
	}
	const most = 8
	names := make([]string, 0, len(w.names))
	for n := range w.names {
		names = append(names, n)
	}
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	return "asked were " + strings.Join(names, ", ") + said
}

// drop takes the wish back. It may be called again.
func (s *wish) drop() {
	if s.w == nil {
		return
	}
	x, w := s.x, s.w
	s.w = nil
	x.mu.Lock()
	defer x.mu.Unlock()
	if w.wishes--; w.wishes > 0 {
		return
	}
	close(w.gone)
	delete(x.wants, w.c)
	if w.block != nil {
		full := x.held > x.o.Held
		if x.held -= len(w.block.RawData()); full && x.held <= x.o.Held {
			x.dispatch()
		}
		return
	}
	if i := slices.Index(x.queue, w); i >= 0 {
		x.queue = slices.Delete(x.queue, i, i+1)
	}
}

// deliver hands a block to who wants it; false if nobody does any more.
func (x *Exchange) deliver(w *want, b blocks.Block) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w.block != nil || w.wishes == 0 {
		return false
	}
	size := len(b.RawData())
	w.block = b
	x.held += size
	x.mean += (size - x.mean) / 8
	x.gotBlocks.Add(1)
	x.gotBytes.Add(uint64(size))
	x.queue = slices.DeleteFunc(x.queue, func(o *want) bool { return o == w })
	close(w.done)
	return true
}
