package diff

import (
	"context"
	"fmt"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Overlay takes what is put into it without writing to the store below: directories, symlinks and the sidecar
// stay in memory, of the content of files only that it was there. It is for importing a directory to compare
// it, at the cost of reading it.
//
// It keeps the contract of [snapshot.Blocks] but for one thing: a raw block that was put and that the store
// below does not have is there for Has, and for Get an error that wraps [snapshot.ErrNotFound].
type Overlay struct {
	base snapshot.Blocks

	mu      sync.RWMutex
	kept    map[cid.Cid]blocks.Block
	dropped map[mark]struct{}
}

// mark is what is remembered of a raw block, of which there may be millions: the end of its hash.
type mark [16]byte

func markOf(c cid.Cid) (m mark) {
	name := c.KeyString()
	copy(m[:], name[max(len(name)-len(m), 0):])
	return m
}

var _ snapshot.Blocks = (*Overlay)(nil)

// NewOverlay returns an overlay over a store, which is only read.
func NewOverlay(base snapshot.Blocks) *Overlay {
	return &Overlay{base: base, kept: map[cid.Cid]blocks.Block{}, dropped: map[mark]struct{}{}}
}

// Get implements [snapshot.Blocks].
func (o *Overlay) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	o.mu.RLock()
	blk, kept := o.kept[c]
	o.mu.RUnlock()
	if kept {
		return blk, nil
	}
	return o.base.Get(ctx, c)
}

// Has implements [snapshot.Blocks].
func (o *Overlay) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	has, err := o.base.Has(ctx, cs...)
	if err != nil {
		return nil, err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for i, c := range cs {
		_, kept := o.kept[c]
		_, dropped := o.dropped[markOf(c)]
		has[i] = has[i] || kept || dropped && c.Prefix().Codec == cid.Raw
	}
	return has, nil
}

// Put implements [snapshot.Blocks].
func (o *Overlay) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range bs {
		c := b.Cid()
		if c.Prefix().Codec == cid.Raw {
			o.dropped[markOf(c)] = struct{}{}
			continue
		}
		if _, kept := o.kept[c]; kept {
			continue
		}
		own, err := blocks.NewBlockWithCid(append([]byte(nil), b.RawData()...), c)
		if err != nil {
			return fmt.Errorf("keep block %s: %w", c, err)
		}
		o.kept[c] = own
	}
	return nil
}

// Sync implements [snapshot.Blocks]. There is nothing to make durable.
func (o *Overlay) Sync(context.Context) error { return nil }
