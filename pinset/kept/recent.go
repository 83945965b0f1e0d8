package kept

import (
	"bytes"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

const (
	// recentBytes is about half of what is remembered at most, and recentBlock the largest block.
	recentBytes = 4 << 20
	recentBlock = 128 << 10
)

// recent remembers nodes that were read or sent lately: a commit reads those of its base again and again, and a request
// takes the daemon longer than all else that is done with a small block. Content of files is not remembered.
type recent struct {
	mu       sync.Mutex
	now, old map[cid.Cid]blocks.Block // old is what now was before it became too large
	size     int                      // of now
}

// get returns a block that is remembered, or nil.
func (r *recent) get(c cid.Cid) blocks.Block {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.now[c]; b != nil {
		return b
	}
	b := r.old[c]
	if b != nil {
		r.add(b)
	}
	return b
}

// remember takes a copy of a block if it is a small node.
func (r *recent) remember(b blocks.Block) {
	if b.Cid().Prefix().Codec == cid.Raw || len(b.RawData()) > recentBlock {
		return
	}
	own, err := blocks.NewBlockWithCid(bytes.Clone(b.RawData()), b.Cid())
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now[b.Cid()] == nil {
		r.add(own)
	}
}

// add is called with mu held.
func (r *recent) add(b blocks.Block) {
	if r.now == nil || r.size > recentBytes {
		r.old, r.now, r.size = r.now, map[cid.Cid]blocks.Block{}, 0
	}
	r.now[b.Cid()] = b
	r.size += len(b.RawData())
}
