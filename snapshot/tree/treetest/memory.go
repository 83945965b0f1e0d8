package treetest

import (
	"context"
	"fmt"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Memory holds blocks in a map, and counts what is read, so that a test can say what must not be.
type Memory struct {
	mu     sync.Mutex
	blocks map[cid.Cid]blocks.Block
	gets   map[cid.Cid]int
}

var _ snapshot.Blocks = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{blocks: map[cid.Cid]blocks.Block{}, gets: map[cid.Cid]int{}}
}

// Get implements [snapshot.Blocks].
func (m *Memory) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.gets[c]++
	b, ok := m.blocks[c]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", c, snapshot.ErrNotFound)
	}
	return b, nil
}

// Has implements [snapshot.Blocks].
func (m *Memory) Has(_ context.Context, cs ...cid.Cid) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	has := make([]bool, len(cs))
	for i, c := range cs {
		_, has[i] = m.blocks[c]
	}
	return has, nil
}

// Put implements [snapshot.Blocks].
func (m *Memory) Put(_ context.Context, bs ...blocks.Block) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bs {
		data := append([]byte(nil), b.RawData()...)
		own, err := blocks.NewBlockWithCid(data, b.Cid())
		if err != nil {
			return err
		}
		m.blocks[b.Cid()] = own
	}
	return nil
}

// Sync implements [snapshot.Blocks].
func (m *Memory) Sync(context.Context) error { return nil }

// Remove drops a block.
func (m *Memory) Remove(c cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blocks, c)
}

// Gets returns how often a block was asked for, and starts counting anew.
func (m *Memory) Gets() map[cid.Cid]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	gets := m.gets
	m.gets = map[cid.Cid]int{}
	return gets
}
