package publish

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/snapshot"
)

const (
	// fetchTime is how long Learn waits for the histories of heads that are not here.
	fetchTime = 2 * time.Second
	// fetchAtOnce is how many of them are got at a time.
	fetchAtOnce = 16
)

// Learn reads a set of pins that others may have written, and returns how many volumes moved by it, and how many pins
// were no head that can be believed, those of other purposes not among them. The histories of heads are got first, if
// that can be done within a moment: otherwise a head counts as a fork of those before it until it can.
func (h *Heads) Learn(ctx context.Context, pins iter.Seq2[pinset.Pin, error]) (moved, refused int, _ error) {
	var news table.News
	var dropped directory.Dropped
	for e, err := range directory.Entries(h.o.Namespace, pins, &dropped) {
		if err != nil {
			return 0, 0, err
		}
		news.Heads = append(news.Heads, e.Head)
		news.Bindings = append(news.Bindings, e.Binding)
	}
	if err := h.fetch(ctx, news.Heads); err != nil {
		return 0, 0, err
	}
	volumes, err := h.o.Table.Learn(ctx, news)
	return len(volumes), dropped.Oversized + dropped.Malformed + dropped.Forged + dropped.Misnamed, err
}

// fetch gets the histories of volumes of which there is news, back to the oldest head that is known.
func (h *Heads) fetch(ctx context.Context, told []head.Head) error {
	back := map[cid.Cid]uint64{} // for each commit, the sequence that its history is wanted from
	for _, t := range told {
		v, err := h.volume(t.Volume.String())
		if err != nil {
			return err
		}
		if !v.Head.Commit.Defined() || v.Head.Commit == t.Commit && len(v.Forks) == 0 {
			continue
		}
		newest, oldest := v.Head, min(v.Head.Sequence, t.Sequence)
		if head.Compare(newest, t) < 0 {
			newest = t
		}
		for _, f := range v.Forks {
			oldest = min(oldest, f.Sequence)
		}
		back[newest.Commit] = oldest
	}
	ctx, done := context.WithTimeout(ctx, fetchTime)
	defer done()
	var work sync.WaitGroup
	free := make(chan struct{}, fetchAtOnce)
	for c, oldest := range back {
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			fetchHistory(ctx, h.o.Blocks, c, oldest)
		})
	}
	work.Wait()
	return nil
}

// fetchHistory reads what History reads. What cannot be had is looked for again the next time.
func fetchHistory(ctx context.Context, b snapshot.Blocks, c cid.Cid, oldest uint64) {
	blk, err := b.Get(ctx, c)
	if err != nil {
		return
	}
	commit, err := snapshot.DecodeCommit(blk)
	if err != nil {
		return
	}
	for a, err := range snapshot.History(ctx, b, commit) {
		if err != nil || a.Sequence < oldest {
			return
		}
	}
}

// History is the ancestors of commits, for [table.Open], as far as they are among the blocks that are here.
func History(b snapshot.Blocks) table.History {
	b = here{b}
	return func(ctx context.Context, c cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
		return func(yield func(snapshot.Ancestor, error) bool) {
			commit, err := commitOf(ctx, b, c)
			if err != nil {
				yield(snapshot.Ancestor{}, err)
				return
			}
			for a, err := range snapshot.History(ctx, b, commit) {
				if !yield(a, err) || err != nil {
					return
				}
			}
		}
	}
}

// here is blocks of which those that are not here are not fetched.
type here struct{ snapshot.Blocks }

func (b here) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	has, err := b.Has(ctx, c)
	if err != nil {
		return nil, err
	}
	if !has[0] {
		return nil, fmt.Errorf("block %s: %w", c, snapshot.ErrNotFound)
	}
	return b.Blocks.Get(ctx, c)
}

func commitOf(ctx context.Context, b snapshot.Blocks, c cid.Cid) (*snapshot.Commit, error) {
	blk, err := here{b}.Get(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return snapshot.DecodeCommit(blk)
}
