package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// A Source has blocks from elsewhere, as an [Exchange] does.
type Source = snapshot.ManyGetter

// Blocks are those of a host, and behind them a source: what is not here is got from there, and kept here. Has, Put and
// Sync are of what is here. All methods are safe for concurrent use.
type Blocks struct {
	local  snapshot.Blocks
	source Source
}

var (
	_ snapshot.Blocks     = (*Blocks)(nil)
	_ snapshot.ManyGetter = (*Blocks)(nil)
	_ snapshot.Layered    = (*Blocks)(nil)
)

// Through puts a source behind the blocks of a host.
func Through(local snapshot.Blocks, source Source) *Blocks { return &Blocks{local, source} }

// Get implements [snapshot.Blocks].
func (b *Blocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	blk, err := b.local.Get(ctx, c)
	if !missing(err) {
		return blk, err
	}
	here := err
	for blk, err = range b.source.GetMany(ctx, c) {
		break
	}
	switch {
	case errors.Is(err, ErrNoSource):
		return nil, here
	case err != nil:
		return nil, err
	}
	return blk, b.keep(ctx, blk)
}

// GetInto is Get into the caller's memory, as far as what is here can do that.
func (b *Blocks) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if into, ok := b.local.(intoGetter); ok {
		data, err := into.GetInto(ctx, c, buf)
		if !missing(err) {
			return data, err
		}
	}
	blk, err := b.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return append(buf[:0], blk.RawData()...), nil
}

// missing reports whether a block is to be got from elsewhere: it is not here, or not as it should be.
func missing(err error) bool {
	return errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrUnavailable)
}

// keep stores what came. That it cannot be is an error of the disk's, for those who write to tell: who reads has the
// block.
func (b *Blocks) keep(ctx context.Context, bs ...blocks.Block) error {
	b.local.Put(ctx, bs...)
	return ctx.Err()
}

const (
	// together is how many blocks are looked up at a time, and keptBytes how many bytes are stored at once.
	together  = 256
	keptBytes = 1 << 20
)

// GetMany implements [snapshot.ManyGetter].
func (b *Blocks) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for rest := cs; len(rest) > 0; {
			n := min(together, len(rest))
			if !b.getSome(ctx, rest[:n], yield) {
				return
			}
			rest = rest[n:]
		}
	}
}

func (b *Blocks) getSome(ctx context.Context, cs []cid.Cid, yield func(blocks.Block, error) bool) bool {
	far := b.notHere(ctx, cs)
	next, stop := iter.Pull2(b.source.GetMany(ctx, far...))
	defer stop()
	var got []blocks.Block
	size := 0
	defer func() { b.keep(context.WithoutCancel(ctx), got...) }()
	for _, c := range cs {
		var blk blocks.Block
		var err error
		if len(far) > 0 && far[0] == c {
			far = far[1:]
			switch blk, err, _ = next(); {
			case errors.Is(err, ErrNoSource):
				blk, err = b.local.Get(ctx, c)
			case err == nil:
				got, size = append(got, blk), size+len(blk.RawData())
			}
			if size >= keptBytes {
				b.keep(ctx, got...)
				got, size = nil, 0
			}
		} else {
			if blk, err = b.local.Get(ctx, c); missing(err) {
				b.keep(ctx, got...) // it may be one of them
				got, size = nil, 0
				blk, err = b.Get(ctx, c)
			}
		}
		if !yield(blk, err) {
			return false
		}
	}
	return true
}

// Far reports whether any of cs is got from elsewhere.
func (b *Blocks) Far(ctx context.Context, cs ...cid.Cid) bool {
	has, err := b.local.Has(ctx, cs...)
	return err == nil && slices.Contains(has, false)
}

// notHere returns those of cs that are to be got from elsewhere. What cannot be looked up is for Get to tell.
func (b *Blocks) notHere(ctx context.Context, cs []cid.Cid) []cid.Cid {
	var far []cid.Cid
	asked := map[cid.Cid]bool{}
	for _, c := range cs {
		if askable(c) != nil || asked[c] {
			continue
		}
		asked[c] = true
		if has, err := b.local.Has(ctx, c); err == nil && !has[0] {
			far = append(far, c)
		}
	}
	return far
}

// Local implements [snapshot.Layered].
func (b *Blocks) Local() snapshot.Blocks { return snapshot.Local(b.local) }

// Has implements [snapshot.Blocks]: what is here.
func (b *Blocks) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	return b.local.Has(ctx, cs...)
}

// Put implements [snapshot.Blocks].
func (b *Blocks) Put(ctx context.Context, bs ...blocks.Block) error { return b.local.Put(ctx, bs...) }

// Sync implements [snapshot.Blocks].
func (b *Blocks) Sync(ctx context.Context) error { return b.local.Sync(ctx) }

// ErrNoSource says that there is nobody to get a block from: that it is not here is all that can be said.
var ErrNoSource = fmt.Errorf("nobody to ask: %w", snapshot.ErrNotFound)

// None is a [Source] that has nothing.
type None struct{}

// GetMany implements [snapshot.ManyGetter].
func (None) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for range cs {
			if !yield(nil, cmp.Or(ctx.Err(), ErrNoSource)) {
				return
			}
		}
	}
}
