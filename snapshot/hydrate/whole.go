package hydrate

import (
	"context"
	"fmt"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const wholeBatch = 4 << 20 // bytes that are stored at a time

// whole gets all of a DAG at once, if that can be asked for and no more of it is here than its root. That it could not be had, or not
// to the end, is no error: the rest is looked for block by block.
func (f *fetch) whole(ctx context.Context, root cid.Cid) error {
	if f.o.Whole == nil {
		return nil
	}
	if bare, err := f.bare(ctx, root); err != nil || !bare {
		return err
	}
	var batch []blocks.Block
	var size uint64
	store := func() error {
		if err := f.b.Put(ctx, batch...); err != nil {
			return fmt.Errorf("hydrate: %w", err)
		}
		f.count(Stats{FetchedBlocks: uint64(len(batch)), FetchedBytes: size})
		batch, size = nil, 0
		return nil
	}
	for blk, err := range f.o.Whole(ctx, root) {
		if err != nil {
			break
		}
		batch, size = append(batch, blk), size+uint64(len(blk.RawData()))
		if size < wholeBatch {
			continue
		}
		if err := store(); err != nil {
			return err
		}
	}
	if len(batch) == 0 {
		return ctx.Err()
	}
	return store()
}

// bare reports whether root is not here, or nothing that it links to.
func (f *fetch) bare(ctx context.Context, root cid.Cid) (bool, error) {
	has, err := f.b.Has(ctx, root)
	if err != nil || !has[0] {
		return err == nil, err
	}
	blk, err := f.b.Get(ctx, root)
	if err != nil {
		return false, fmt.Errorf("hydrate: %w", err)
	}
	links, err := snapshot.Links(blk)
	if err != nil || len(links) == 0 {
		return false, err
	}
	has, err = f.b.Has(ctx, links...)
	return !slices.Contains(has, true), err
}
