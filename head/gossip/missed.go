package gossip

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// missed is with whom all is to be exchanged soon, for what one of the two was not told. An empty ID stands for any peer.
type missed struct {
	more chan struct{} // has an element when somebody was added

	mu    sync.Mutex
	peers map[peer.ID]bool
}

func newMissed() *missed {
	return &missed{more: make(chan struct{}, 1), peers: map[peer.ID]bool{}}
}

// add does not wait: GossipSub does while it is called.
func (m *missed) add(p peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peers[p] = true
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// take returns all that were added since it was called last.
func (m *missed) take() map[peer.ID]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.peers
	m.peers = map[peer.ID]bool{}
	return all
}
