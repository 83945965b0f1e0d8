package treetest

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// Memory is a store in memory that counts what is read, so that a test can say what must not be, and of
// which blocks can be lost.
type Memory struct {
	*blockstest.Memory

	mu   sync.Mutex
	lost map[cid.Cid]bool
	gets map[cid.Cid]int
}

var _ snapshot.Blocks = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{Memory: blockstest.NewMemory(), lost: map[cid.Cid]bool{}, gets: map[cid.Cid]int{}}
}

// Get implements [snapshot.Blocks].
func (m *Memory) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	m.mu.Lock()
	m.gets[c]++
	lost := m.lost[c]
	m.mu.Unlock()
	if lost {
		return nil, fmt.Errorf("get block %s: %w", c, snapshot.ErrNotFound)
	}
	return m.Memory.Get(ctx, c)
}

// Lose makes a block missing until it is found.
func (m *Memory) Lose(c cid.Cid) { m.set(c, true) }

// Find brings a lost block back.
func (m *Memory) Find(c cid.Cid) { m.set(c, false) }

func (m *Memory) set(c cid.Cid, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost[c] = lost
}

// Gets returns how often each block was asked for, and starts counting anew.
func (m *Memory) Gets() map[cid.Cid]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	gets := m.gets
	m.gets = map[cid.Cid]int{}
	return gets
}

// Together is a store that prefers to be asked for many blocks at once, as one in another process does.
type Together struct {
	*Memory
	Requests atomic.Int64 // calls, whatever they asked for
}

var _ snapshot.ManyGetter = (*Together)(nil)

// Get implements [snapshot.Blocks].
func (s *Together) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	s.Requests.Add(1)
	return s.Memory.Get(ctx, c)
}

// GetMany implements [snapshot.ManyGetter].
func (s *Together) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	s.Requests.Add(1)
	return snapshot.GetMany(ctx, s.Memory, cs...)
}
