// Package hydrate brings all blocks of a DAG to where only some of them are.
//
// Start with [Fetch]. What is there already is not got again, so that one that was interrupted goes on where it was.
package hydrate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const (
	// workers look for blocks side by side, batch of them at a time: while one comes to the end of what it asked for,
	// the others' are under way.
	workers = 8
	batch   = 256
)

// ErrNotKept says that blocks came and could not be stored.
var ErrNotKept = errors.New("blocks that were fetched are not kept")

// Options of a Fetch. The zero value is useful.
type Options struct {
	// Whole is nil, or gets all blocks of a DAG at once, each after one that links to it. It is asked if nothing
	// below root is here; what it ends without, with or without an error, is got one by one.
	Whole    func(ctx context.Context, root cid.Cid) iter.Seq2[blocks.Block, error]
	Progress func(Stats) // is told the running totals now and then, by one at a time
}

// Stats count blocks of a DAG, each once.
type Stats struct {
	Blocks, Bytes               uint64 // that are here now; the bytes of those that were here are not counted for leaves
	FetchedBlocks, FetchedBytes uint64 // of which were not before
}

// Fetch gets every block that root reaches through b, which stores what it gets, as far as b does not have it: Has
// answers for what is there, and Get and GetMany bring the rest. All that was got is durable when it returns. Memory is
// bounded by the CIDs of the DAG.
func Fetch(ctx context.Context, b snapshot.Blocks, root cid.Cid, o Options) (Stats, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &fetch{b: b, o: o, seen: map[cid.Cid]struct{}{root: {}}, todo: []cid.Cid{root}}
	f.more = sync.NewCond(&f.mu)
	defer context.AfterFunc(ctx, f.wake)()
	if err := f.whole(ctx, root); err != nil {
		return f.stats, err
	}
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for {
				cs := f.next(ctx)
				if len(cs) == 0 {
					return
				}
				err := f.get(ctx, cs)
				if err != nil {
					cancel(err)
				}
				f.done()
			}
		})
	}
	work.Wait()
	if ctx.Err() != nil {
		return f.stats, context.Cause(ctx)
	}
	return f.stats, b.Sync(ctx)
}

type fetch struct {
	b snapshot.Blocks
	o Options

	mu    sync.Mutex
	more  *sync.Cond // todo or busy changed
	seen  map[cid.Cid]struct{}
	todo  []cid.Cid // the next is last
	busy  int       // workers that may find more
	stats Stats
}

func (f *fetch) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.more.Broadcast()
}

// next returns what a worker is to look at, nothing once there is no more.
func (f *fetch) next(ctx context.Context) []cid.Cid {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.todo) == 0 && f.busy > 0 && ctx.Err() == nil {
		f.more.Wait()
	}
	if len(f.todo) == 0 || ctx.Err() != nil {
		return nil
	}
	from := max(0, len(f.todo)-batch)
	cs := make([]cid.Cid, 0, batch)
	for i := len(f.todo) - 1; i >= from; i-- {
		cs = append(cs, f.todo[i])
	}
	f.todo = f.todo[:from]
	f.busy++
	return cs
}

func (f *fetch) done() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.more.Broadcast()
}

// get gets what of cs is not here, and notes what the blocks link to.
func (f *fetch) get(ctx context.Context, cs []cid.Cid) error {
	has, err := f.b.Has(ctx, cs...)
	if err != nil {
		return err
	}
	var missing, leaves []cid.Cid // of which some are brought without being looked at
	bringer, brings := f.b.(bringer)
	var here Stats
	for i, c := range cs {
		switch {
		case !has[i] && brings && c.Prefix().Codec == cid.Raw:
			leaves = append(leaves, c)
		case !has[i]:
			missing = append(missing, c)
		case c.Prefix().Codec == cid.Raw:
			here.Blocks++
		default:
			if err := f.here(ctx, c); err != nil {
				return err
			}
		}
	}
	f.count(here)
	i := 0
	for blk, err := range snapshot.GetMany(ctx, f.b, missing...) {
		if err != nil {
			return fmt.Errorf("hydrate: %w", err)
		}
		links, err := snapshot.Links(blk)
		if err != nil {
			return fmt.Errorf("hydrate: %w", err)
		}
		f.found(links)
		n := uint64(len(blk.RawData()))
		f.count(Stats{1, n, 1, n})
		i++
	}
	if i < len(missing) {
		return ctx.Err()
	}
	if len(leaves) > 0 {
		if err := f.bring(ctx, bringer, leaves); err != nil {
			return err
		}
	}
	return f.kept(ctx, append(missing, leaves...))
}

// bringer is what blocks have that get others to where they are kept without handing them over: Bring yields the size of
// each, or why it did not come, in the order of cs.
type bringer interface {
	Bring(ctx context.Context, cs ...cid.Cid) iter.Seq2[int, error]
}

func (f *fetch) bring(ctx context.Context, b bringer, cs []cid.Cid) error {
	for size, err := range b.Bring(ctx, cs...) {
		if err != nil {
			return fmt.Errorf("hydrate: %w", err)
		}
		n := uint64(size)
		f.count(Stats{1, n, 1, n})
	}
	return ctx.Err()
}

// here notes what a block links to that is here.
func (f *fetch) here(ctx context.Context, c cid.Cid) error {
	blk, err := f.b.Get(ctx, c)
	if err != nil {
		return fmt.Errorf("hydrate: %w", err)
	}
	links, err := snapshot.Links(blk)
	if err != nil {
		return fmt.Errorf("hydrate: %w", err)
	}
	f.found(links)
	f.count(Stats{Blocks: 1, Bytes: uint64(len(blk.RawData()))})
	return nil
}

// kept says whether what came is stored.
func (f *fetch) kept(ctx context.Context, cs []cid.Cid) error {
	has, err := f.b.Has(ctx, cs...)
	if err != nil {
		return err
	}
	for i, c := range cs {
		if !has[i] {
			return fmt.Errorf("hydrate: block %s: %w", c, ErrNotKept)
		}
	}
	return nil
}

func (f *fetch) found(links []cid.Cid) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(links) - 1; i >= 0; i-- {
		if _, again := f.seen[links[i]]; !again {
			f.seen[links[i]] = struct{}{}
			f.todo = append(f.todo, links[i])
		}
	}
	f.more.Broadcast()
}

func (f *fetch) count(s Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Blocks += s.Blocks
	f.stats.Bytes += s.Bytes
	f.stats.FetchedBlocks += s.FetchedBlocks
	f.stats.FetchedBytes += s.FetchedBytes
	if f.o.Progress != nil {
		f.o.Progress(f.stats)
	}
}
