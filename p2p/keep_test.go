package p2p

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestConfiguredPeersAreTriedFirst(t *testing.T) {
	h := &Host{targets: map[peer.ID]*target{}}
	for i := range 10 * dialsAtOnce {
		id := peer.ID(fmt.Sprint(i))
		h.targets[id] = &target{info: peer.AddrInfo{ID: id}, good: true, configured: i < dialsAtOnce}
	}
	now := time.Now()
	due, _ := h.due(now)
	if len(due) != dialsAtOnce {
		t.Fatalf("%d are tried at once", len(due))
	}
	for _, d := range due {
		if !d.configured {
			t.Errorf("%s is tried before one that is configured", d.info.ID)
		}
		d.trying, d.next = false, now.Add(time.Second)
	}
	due, wait := h.due(now)
	if len(due) != dialsAtOnce || due[0].configured || wait > time.Second {
		t.Errorf("after them %d are tried, and it is waited for %s", len(due), wait)
	}
}

func TestWaitsBetweenAttemptsGrowToABound(t *testing.T) {
	for most, target := range map[time.Duration]target{mostBackoff: {configured: true}, goodBackoff: {good: true}, restBackoff: {}} {
		for target.fails = range 100 {
			want := min(most, firstBackoff<<min(target.fails, 12))
			if got := target.backoff(); got < want/2 || got > want*3/2 {
				t.Errorf("after %d failures %s is waited, want about %s", target.fails, got, want)
			}
		}
	}
}
