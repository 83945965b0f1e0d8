package snapshot

import (
	"context"
	"iter"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// ManyGetter is what a [Blocks] has beyond that if many blocks at once cost it less than each by itself, as
// those of another process do. GetMany yields for each of cs, in their order, what Get would return for it. It
// holds a few MiB of blocks at a time, however many are asked for, and fetches no more once the loop ends.
type ManyGetter interface {
	GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error]
}

// GetMany yields for each of cs, in their order, what b.Get returns for it; by way of [ManyGetter] if b is one.
func GetMany(ctx context.Context, b Blocks, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	if many, ok := b.(ManyGetter); ok {
		return many.GetMany(ctx, cs...)
	}
	return func(yield func(blocks.Block, error) bool) {
		for _, c := range cs {
			if !yield(b.Get(ctx, c)) {
				return
			}
		}
	}
}
