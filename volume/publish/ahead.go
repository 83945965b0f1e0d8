package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const (
	aheadTime  = 10 * time.Second // that one head is waited for
	aheadAgain = time.Minute      // until what could not be had is tried again
	mostFailed = 1 << 14          // heads that are tried again
	askedFor   = 1024             // commits that are looked for in one step
)

// Ahead gets the commits of heads that are heard, and the roots of what they are of, so that they can be listed and
// mounted without waiting, until ctx is done. What cannot be had is tried again now and then.
func (h *Heads) Ahead(ctx context.Context) error {
	w := h.o.Table.Watch()
	defer w.Close()
	a := &ahead{b: h.o.Blocks, free: make(chan struct{}, fetchAtOnce), failed: map[cid.Cid]bool{}}
	defer a.work.Wait()
	if err := h.allAhead(ctx, a); err != nil {
		return err
	}
	for next := time.Now().Add(aheadAgain); ; {
		limited, done := context.WithDeadline(ctx, next)
		c, err := w.Next(limited)
		done()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			next = time.Now().Add(aheadAgain)
			err = a.get(ctx, a.again())
		case err == nil && c.Missed:
			err = h.allAhead(ctx, a)
		case err == nil:
			var heard []cid.Cid
			for _, one := range c.Heads {
				heard = append(heard, one.Commit)
			}
			err = a.begin(ctx, heard)
		}
		if err != nil {
			return err
		}
	}
}

// allAhead gets the heads of all volumes.
func (h *Heads) allAhead(ctx context.Context, a *ahead) error {
	vs, err := h.o.Table.Volumes()
	if err != nil {
		return err
	}
	var all []cid.Cid
	for _, v := range vs {
		if v.Head.Commit.Defined() && !v.Removed() {
			all = append(all, v.Head.Commit)
		}
	}
	return a.get(ctx, all)
}

type ahead struct {
	b    snapshot.Blocks
	free chan struct{} // has an element for each head that is being got
	work sync.WaitGroup

	mu     sync.Mutex
	failed map[cid.Cid]bool
}

// again returns what could not be had.
func (a *ahead) again() (cs []cid.Cid) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.failed {
		cs = append(cs, c)
	}
	clear(a.failed)
	return cs
}

// get begins to get what belongs to those commits that are not here.
func (a *ahead) get(ctx context.Context, cs []cid.Cid) error {
	for part := range slices.Chunk(cs, askedFor) {
		has, err := a.b.Has(ctx, part...)
		if err != nil {
			a.later(part)
			continue
		}
		var missing []cid.Cid
		for i, c := range part {
			if !has[i] {
				missing = append(missing, c)
			}
		}
		if err := a.begin(ctx, missing); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin begins to get what belongs to commits, a few at a time.
func (a *ahead) begin(ctx context.Context, cs []cid.Cid) error {
	for _, c := range cs {
		select {
		case a.free <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		a.work.Go(func() {
			defer func() { <-a.free }()
			if err := getRoots(ctx, a.b, c); err != nil {
				a.later([]cid.Cid{c})
			}
		})
	}
	return ctx.Err()
}

// later notes what could not be had.
func (a *ahead) later(cs []cid.Cid) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range cs {
		if len(a.failed) < mostFailed {
			a.failed[c] = true
		}
	}
}

// getRoots gets a commit, the root of its tree and that of its sidecar.
func getRoots(ctx context.Context, b snapshot.Blocks, c cid.Cid) error {
	ctx, done := context.WithTimeout(ctx, aheadTime)
	defer done()
	blk, err := b.Get(ctx, c)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	commit, err := snapshot.DecodeCommit(blk)
	if err != nil {
		return nil // it will not be another one the next time
	}
	for _, root := range []cid.Cid{commit.Tree, commit.Meta} {
		if !root.Defined() {
			continue
		}
		if has, err := b.Has(ctx, root); err == nil && has[0] {
			continue
		}
		if _, err := b.Get(ctx, root); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	return nil
}
