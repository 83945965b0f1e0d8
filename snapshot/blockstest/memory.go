package blockstest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

// Memory is a Blocks in memory. It must be made by NewMemory.
type Memory struct {
	mu   sync.RWMutex
	data map[string][]byte // by multihash
}

var _ snapshot.Blocks = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{data: make(map[string][]byte)} }

// Get returns a block, checked.
func (m *Memory) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.Defined() {
		return nil, fmt.Errorf("undefined CID: %w", snapshot.ErrFormat)
	}
	data, ok := m.lookup(c)
	if !ok {
		return nil, fmt.Errorf("get block %s: %w", c, snapshot.ErrNotFound)
	}
	if got, err := c.Prefix().Sum(data); err != nil || !got.Equals(c) {
		return nil, fmt.Errorf("get block %s: %w", c, snapshot.ErrDamaged)
	}
	return blocks.NewBlockWithCid(data, c)
}

// Has tells what is there.
func (m *Memory) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := make([]bool, len(cs))
	for i, c := range cs {
		_, found[i] = m.lookup(c)
	}
	return found, nil
}

// Put stores blocks.
func (m *Memory) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bs {
		if len(b.RawData()) > snapshot.MaxBlockSize {
			return fmt.Errorf("block %s of %d bytes: %w", b.Cid(), len(b.RawData()), snapshot.ErrFormat)
		}
		key := string(b.Cid().Hash())
		if _, ok := m.data[key]; !ok {
			m.data[key] = bytes.Clone(b.RawData())
		}
	}
	return nil
}

// Sync has nothing to do.
func (m *Memory) Sync(ctx context.Context) error { return ctx.Err() }

// Len is the number of blocks.
func (m *Memory) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.data)
}

// Delete takes a block away.
func (m *Memory) Delete(c cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, string(c.Hash()))
}

func (m *Memory) lookup(c cid.Cid) ([]byte, bool) {
	if !c.Defined() {
		return nil, false
	}
	if d, err := mh.Decode(c.Hash()); err == nil && d.Code == mh.IDENTITY {
		return d.Digest, true
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.data[string(c.Hash())]
	return data, ok
}
