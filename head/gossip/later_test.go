package gossip

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

func TestWhatAHostLearnsWhileItsIndexRestsIsToldWhoMetIt(t *testing.T) {
	a, b := newMember(t, Options{}), newMember(t, Options{})
	first, next := volumeAt(t, ours(t), "first", 1, "a state"), volumeAt(t, ours(t), "next", 1, "a state")
	a.know(first)
	if _, _, err := a.index.get(); err != nil {
		t.Fatal(err)
	}
	a.index.mu.Lock()
	a.index.next = time.Now().Add(2 * time.Second) // as if it had taken long to make
	a.index.mu.Unlock()
	a.know(next)
	b.connect(a)
	b.untilAt(first)
	b.untilAt(next)
}

// aside is a host that comes to the topic later than to the network.
type aside struct {
	host.Host
	comes chan struct{}
}

func (h aside) NewStream(ctx context.Context, p peer.ID, spoken ...protocol.ID) (network.Stream, error) {
	if slices.Contains(spoken, protocols[0]) {
		select {
		case <-h.comes:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return h.Host.NewStream(ctx, p, spoken...)
}

func TestWhatIsToldBeforeAPeerIsOnTheTopicIsMadeUpFor(t *testing.T) {
	a, comes := newMember(t, Options{}), make(chan struct{})
	b := newMemberOf(t, aside{listening(t), comes}, Options{})
	met, missed := volumeAt(t, ours(t), "met", 1, "a state"), volumeAt(t, ours(t), "missed", 1, "a state")
	a.know(met)
	b.connect(a)
	b.untilAt(met)
	a.publish(missed)
	close(comes)
	b.untilAt(missed)
}

func TestWhatIsMissedDuringAnExchangeIsMadeUpForAfterIt(t *testing.T) {
	const p = peer.ID("a peer")
	now := time.Unix(1700000000, 0)
	u := turns{due: map[peer.ID]time.Time{}, done: map[peer.ID]time.Time{}, since: map[peer.ID]time.Time{}, failed: map[peer.ID]int{}}
	during := outcome{p: p, began: now}
	now = now.Add(time.Second)
	u.soon(p, now)
	u.did(during, now.Add(time.Second))
	if _, waits := u.due[p]; !waits {
		t.Error("its turn does not come again")
	}
	u.did(outcome{p: p, began: now.Add(2 * time.Second)}, now.Add(3*time.Second))
	if at, waits := u.due[p]; waits {
		t.Errorf("its turn comes once more, at %s", at)
	}
}
