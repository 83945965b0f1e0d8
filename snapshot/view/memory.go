package view

import "sync/atomic"

// Bounds of a [Memory].
const (
	maxListings = 96 << 20 // bytes of directories
	maxChunks   = 64 << 20 // bytes of content
	maxWindows  = 16 << 20 // bytes of where content is
)

// Memory is what views have read and may need again, within one bound for all of them. Views that share one must
// be of the same blocks: what one of them read, another shows.
type Memory struct {
	views    atomic.Uint64 // how many have used it
	listings *cache[listingKey, *listing]
	windows  *cache[windowKey, *window]
	chunks   *cache[string, []byte]
}

// listingKey names a directory of a view: even of one snapshot, views may number their entries differently.
type listingKey struct{ view, id uint64 }

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	return &Memory{
		listings: newCache[listingKey, *listing](maxListings),
		windows:  newCache[windowKey, *window](maxWindows),
		chunks:   newCache[string, []byte](maxChunks),
	}
}

// forget lets go of what is of no use to other views.
func (m *Memory) forget(view uint64) {
	m.listings.drop(func(k listingKey) bool { return k.view == view })
}
