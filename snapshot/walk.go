package snapshot

import (
	"context"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// WalkDAG visits every block that the roots reach, each CID once, a block before what it links to and its
// first link's blocks before the second's. A block that cannot be read is visited as nil, with the error; so
// is one whose links cannot be read, with its bytes. Visit ends the walk by returning an error, which WalkDAG
// returns. The order depends on the DAG alone.
//
// While a block is visited the next ones are being read. Memory is bounded by the CIDs of the DAG.
func WalkDAG(ctx context.Context, b Blocks, roots []cid.Cid, visit func(cid.Cid, blocks.Block, error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	w := dagWalk{ctx: ctx, b: b, seen: map[cid.Cid]struct{}{}, ahead: map[cid.Cid]chan fetched{}}
	defer w.reads.Wait()
	defer cancel()
	w.push(roots)
	for len(w.stack) > 0 {
		c := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if _, again := w.seen[c]; again {
			continue
		}
		w.seen[c] = struct{}{}
		blk, err := w.get(c)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			var links []cid.Cid
			if links, err = Links(blk); err == nil {
				w.push(links)
			}
		}
		if err := visit(c, blk, err); err != nil {
			return err
		}
	}
	return nil
}

const (
	// readAhead is how many blocks a walk reads before they are visited.
	readAhead = 8
	// From a ManyGetter it reads them manyAhead at a time, and holds at most mostAhead.
	manyAhead = 16
	mostAhead = 4 * manyAhead
	// lookAhead is how far down the stack a walk looks for them; it may be full of repetitions.
	lookAhead = 64
)

type fetched struct {
	blk blocks.Block
	err error
}

type dagWalk struct {
	ctx   context.Context
	b     Blocks
	seen  map[cid.Cid]struct{}
	stack []cid.Cid // the next to visit is last
	ahead map[cid.Cid]chan fetched
	reads sync.WaitGroup
}

func (w *dagWalk) push(links []cid.Cid) {
	for i := len(links) - 1; i >= 0; i-- {
		if _, again := w.seen[links[i]]; !again {
			w.stack = append(w.stack, links[i])
		}
	}
}

// get returns a block, and sees to it that the next ones on the stack are being read.
func (w *dagWalk) get(c cid.Cid) (blocks.Block, error) {
	next := w.next(c)
	_, many := w.b.(ManyGetter)
	switch {
	case !many:
		for _, c := range next {
			w.fetch(c)
		}
	case len(next) > 0 && next[0] == c || len(next) >= manyAhead/2:
		w.fetch(next...)
	}
	f := <-w.ahead[c]
	delete(w.ahead, c)
	return f.blk, f.err
}

// next lists what is to be read now: c and the next ones on the stack, without what is being read already.
func (w *dagWalk) next(c cid.Cid) []cid.Cid {
	var next []cid.Cid
	if w.ahead[c] == nil {
		next = append(next, c)
	}
	depth, most := readAhead, readAhead
	if _, many := w.b.(ManyGetter); many {
		depth, most = manyAhead, mostAhead
	}
	listed := map[cid.Cid]struct{}{c: {}}
	for i := len(w.stack) - 1; i >= max(0, len(w.stack)-lookAhead) && len(listed) < depth; i-- {
		d := w.stack[i]
		_, seen := w.seen[d]
		_, again := listed[d]
		if seen || again {
			continue
		}
		listed[d] = struct{}{}
		if w.ahead[d] == nil && len(w.ahead)+len(next) < most {
			next = append(next, d)
		}
	}
	return next
}

// fetch begins to read blocks, in one go.
func (w *dagWalk) fetch(cs ...cid.Cid) {
	chans := make([]chan fetched, len(cs))
	for i, c := range cs {
		chans[i] = make(chan fetched, 1)
		w.ahead[c] = chans[i]
	}
	w.reads.Go(func() {
		for blk, err := range GetMany(w.ctx, w.b, cs...) {
			chans[0] <- fetched{blk, err}
			chans = chans[1:]
		}
	})
}
