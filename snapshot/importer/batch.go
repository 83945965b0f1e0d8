package importer

import (
	"context"
	"sync"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot"
)

const (
	batchBytes  = 2 << 20
	batchBlocks = 1024
	arenaSize   = 256 << 10
	directBytes = 128 << 10 // blocks of this size are put at once, without a copy
)

// batcher gathers small blocks into few calls of Put, and hands stat records on once every block that was put
// before them is stored. Its Put may return before the blocks are stored.
type batcher struct {
	b     snapshot.Blocks
	cache StatCache

	mu      sync.Mutex
	cur     *batch
	pending []*batch // in their order: being written, or written after one that is not
}

type batch struct {
	blocks  []blocks.Block
	bytes   int
	arena   []byte
	records []StatRecord
	written bool
}

func newBatcher(b snapshot.Blocks, cache StatCache) *batcher {
	return &batcher{b: b, cache: cache, cur: new(batch)}
}

// Put stores blocks whose bytes nobody changes any more.
func (p *batcher) Put(ctx context.Context, bs ...blocks.Block) error {
	p.mu.Lock()
	for _, b := range bs {
		p.cur.add(b)
	}
	return p.unlock(ctx, false)
}

// putCopy stores blocks whose bytes the caller will use again.
func (p *batcher) putCopy(ctx context.Context, bs ...blocks.Block) error {
	size := 0
	for _, b := range bs {
		size += len(b.RawData())
	}
	if size >= directBytes {
		return p.b.Put(ctx, bs...)
	}
	p.mu.Lock()
	for _, b := range bs {
		c, err := blocks.NewBlockWithCid(p.cur.keep(b.RawData()), b.Cid())
		if err != nil {
			p.mu.Unlock()
			return err
		}
		p.cur.add(c)
	}
	return p.unlock(ctx, false)
}

// save stores a stat record once the blocks that were put before are stored.
func (p *batcher) save(ctx context.Context, rec StatRecord) error {
	p.mu.Lock()
	p.cur.records = append(p.cur.records, rec)
	p.cur.bytes += len(rec.Value)
	return p.unlock(ctx, false)
}

// flush stores everything; nobody puts meanwhile.
func (p *batcher) flush(ctx context.Context) error {
	p.mu.Lock()
	return p.unlock(ctx, true)
}

func (b *batch) add(blk blocks.Block) {
	b.blocks = append(b.blocks, blk)
	b.bytes += len(blk.RawData())
}

func (b *batch) keep(data []byte) []byte {
	if len(data) > cap(b.arena)-len(b.arena) {
		b.arena = make([]byte, 0, max(arenaSize, len(data)))
	}
	n := len(b.arena)
	b.arena = append(b.arena, data...)
	return b.arena[n:len(b.arena):len(b.arena)]
}

// unlock writes the current batch if it is full or must be written.
func (p *batcher) unlock(ctx context.Context, must bool) error {
	if !must && p.cur.bytes < batchBytes && len(p.cur.blocks) < batchBlocks {
		p.mu.Unlock()
		return nil
	}
	b := p.cur
	p.cur = new(batch)
	p.pending = append(p.pending, b)
	p.mu.Unlock()
	if len(b.blocks) > 0 {
		if err := p.b.Put(ctx, b.blocks...); err != nil {
			return err
		}
	}
	return p.written(ctx, b)
}

func (p *batcher) written(ctx context.Context, b *batch) error {
	p.mu.Lock()
	b.written, b.blocks, b.arena = true, nil, nil
	var recs []StatRecord
	for len(p.pending) > 0 && p.pending[0].written {
		recs = append(recs, p.pending[0].records...)
		p.pending = p.pending[1:]
	}
	p.mu.Unlock()
	if len(recs) == 0 {
		return nil
	}
	return p.cache.SaveStat(ctx, recs)
}
