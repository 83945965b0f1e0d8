package gossip

import (
	"context"
	"slices"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// mostRelayed is how much news of one exchange is passed on. Who hears more was away itself; who tells more is heard
	// by others when their turn to exchange comes.
	mostRelayed = 256
	// relayAfter is how long it takes at least to pass on what an exchange brought, and at most twice that: what others
	// tell meanwhile on the topic need not be.
	relayAfter = 300 * time.Millisecond
	// relayedAtOnce is how much is told at once, relayPause how long nothing is then: less than a peer may tell
	// (flood.DefaultRate), and than waits for one (outbound), however many bring news.
	relayedAtOnce = 64
	relayPause    = 200 * time.Millisecond
)

// relay is news that this host heard in exchanges, which a peer that is connected to this host only has not heard: who
// told it was not on the topic when it was new. Each is told on the topic in a moment, unless it comes from there by then.
type relay struct {
	more chan struct{} // has an element when something was put

	mu      sync.Mutex
	waiting map[string]relayed // by message ID
}

type relayed struct {
	from    peer.ID
	message []byte
	at      time.Time // when it is told
}

func newRelay() *relay {
	return &relay{more: make(chan struct{}, 1), waiting: map[string]relayed{}}
}

func idOf(message []byte) string { return messageID(&pb.Message{Data: message}) }

// put has messages wait. It is called before they are known: one that comes on the topic from then on is passed on.
func (r *relay) put(from peer.ID, messages [][]byte, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		r.waiting[idOf(m)] = relayed{from, m, at}
	}
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *relay) drop(messages [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		delete(r.waiting, idOf(m))
	}
}

// take reports whether a message waited. It does not any more.
func (r *relay) take(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, waited := r.waiting[id]
	delete(r.waiting, id)
	return waited
}

// due returns messages that are to be told now, and says when the next ones are; that is zero if there are none. They wait
// until they are told, so that one that comes on the topic meanwhile is passed on.
func (r *relay) due(now time.Time) (all []relayed, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.waiting {
		switch {
		case !m.at.After(now) && len(all) < relayedAtOnce:
			all = append(all, m)
		case next.IsZero() || m.at.Before(next):
			next = m.at
		}
	}
	return all, next
}

// passOn tells what waits when it is time, until ctx is done.
func (g *Gossip) passOn(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-g.relay.more:
		case <-ctx.Done():
			return
		}
		all, next := g.relay.due(time.Now())
		peers := g.topic.ListPeers()
		for _, m := range all {
			if slices.ContainsFunc(peers, func(p peer.ID) bool { return p != m.from }) {
				if err := g.topic.Publish(ctx, m.message); err != nil && ctx.Err() == nil {
					g.log.Warn("cannot pass on what a peer told", "error", err)
				}
			}
			g.relay.take(idOf(m.message))
		}
		if len(all) > 0 {
			select {
			case <-time.After(relayPause):
			case <-ctx.Done():
				return
			}
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}
