package main

import (
	"context"
	"errors"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume/api"
)

// How long a process that serves a mount has the store open, when there is no daemon: others who want to write
// wait up to lockWait for it.
const (
	lentIdle  = 200 * time.Millisecond // without being asked for anything
	lentMost  = time.Second            // in one go
	lentPause = 100 * time.Millisecond // after that; others try more often
)

// lentBlocks are the blocks of a home for a process that stays: through whichever daemon runs, or else from the
// store itself, opened for a moment at a time. While another process writes to it, who wants a block waits.
type lentBlocks struct {
	home *home
	idle *time.Timer

	mu     sync.Mutex
	loan   *loan     // nil while nothing is open
	rest   time.Time // until when nothing is opened
	closed bool
}

// loan is a host while it is open.
type loan struct {
	host  *api.Host
	since time.Time
	users int // guarded by lentBlocks.mu
	over  bool
}

// direct reports whether it is the store itself.
func (l *loan) direct() bool { return l.host.Owners != nil }

var _ snapshot.Blocks = (*lentBlocks)(nil)

func lendBlocks(h *home) *lentBlocks {
	b := &lentBlocks{home: h}
	b.idle = time.AfterFunc(lentIdle, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.loan != nil && b.loan.users == 0 && b.loan.direct() {
			b.end()
		}
	})
	return b
}

// Close gives the blocks back for good.
func (b *lentBlocks) Close() error {
	b.idle.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.end()
	return nil
}

// end closes the host, once its last user is done. It is called with the lock.
func (b *lentBlocks) end() {
	if l := b.loan; l != nil {
		b.loan, l.over = nil, true
		if l.users == 0 {
			l.host.Close()
		}
	}
}

// borrow returns a host, open until it is given back.
func (b *lentBlocks) borrow(ctx context.Context) (*loan, error) {
	for {
		b.mu.Lock()
		wait, err := b.ready(ctx)
		if err == nil && wait == 0 {
			l := b.loan
			l.users++
			b.mu.Unlock()
			return l, nil
		}
		b.mu.Unlock()
		if err != nil && !errors.Is(err, store.ErrLocked) {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, errors.Join(snapshot.ErrUnavailable, ctx.Err(), err)
		}
	}
}

// ready opens a host, or says how long to wait before trying again. It is called with the lock.
func (b *lentBlocks) ready(ctx context.Context) (time.Duration, error) {
	if b.closed {
		return 0, store.ErrClosed
	}
	if l := b.loan; l != nil && l.direct() && time.Since(l.since) > lentMost {
		b.end()
		b.rest = time.Now().Add(lentPause)
	}
	if wait := time.Until(b.rest); b.loan == nil && wait > 0 {
		return wait, nil
	}
	if b.loan != nil {
		return 0, nil
	}
	// Opening a store that was removed would make it anew.
	if err := b.home.checkVersion(); err != nil {
		return 0, err
	}
	host, err := dialOrOpen(ctx, b.home, readOnly)
	if err != nil {
		return lentPause / 4, err
	}
	b.loan = &loan{host: host, since: time.Now()}
	return 0, nil
}

// give takes a host back. One that failed is not lent again.
func (b *lentBlocks) give(l *loan, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.users--
	if failed && b.loan == l {
		b.end()
	} else if l.over && l.users == 0 {
		l.host.Close()
	}
	if l.direct() {
		b.idle.Reset(lentIdle)
	}
}

// Get implements [snapshot.Blocks]. What may be otherwise in a moment is tried again, as long as the caller waits.
func (b *lentBlocks) Get(ctx context.Context, c cid.Cid) (blk blocks.Block, err error) {
	for {
		l, berr := b.borrow(ctx)
		if berr != nil {
			return nil, errors.Join(berr, err)
		}
		blk, err = l.host.Blocks.Get(ctx, c)
		failed := err != nil && !settled(err)
		b.give(l, failed)
		if !failed {
			return blk, err
		}
		select {
		case <-time.After(lentPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// settled reports whether an error says how it is with a block.
func settled(err error) bool {
	return errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, snapshot.ErrFormat)
}

// Has implements [snapshot.Blocks].
func (b *lentBlocks) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	l, err := b.borrow(ctx)
	if err != nil {
		return nil, err
	}
	found, err := l.host.Blocks.Has(ctx, cs...)
	b.give(l, err != nil)
	return found, err
}

// Put implements [snapshot.Blocks]: nothing is lent to be changed.
func (b *lentBlocks) Put(context.Context, ...blocks.Block) error { return store.ErrReadOnly }

// Sync implements [snapshot.Blocks].
func (b *lentBlocks) Sync(context.Context) error { return nil }
