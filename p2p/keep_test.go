package p2p

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
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

func TestAPeerThatIsConnectedIsNotTriedAgainAtOnce(t *testing.T) {
	a, b := newHost(t, Options{}), newHost(t, Options{})
	again := &target{info: infoOf(b)}
	for range 2 { // the second time it is connected
		before := time.Now()
		a.try(t.Context(), again)
		if again.err != nil || !again.next.After(before) {
			t.Fatalf("it is tried again at %s, after %v", again.next, again.err)
		}
	}
}

// meanwhile is a network in which another connection to a peer comes while it is asked whether there is one.
type meanwhile struct {
	network.Network
	comes func()
}

func (n meanwhile) Connectedness(peer.ID) network.Connectedness {
	n.comes()
	return network.NotConnected
}

func TestAConnectionThatComesWhileAnotherEndsIsNotForgotten(t *testing.T) {
	const p = peer.ID("p")
	h := &Host{targets: map[peer.ID]*target{}, live: map[peer.ID]live{p: {}}}
	h.left(meanwhile{comes: func() {
		if h.mu.TryLock() {
			h.mu.Unlock()
			t.Error("it could be noted before the one that ended is forgotten")
		}
	}}, p)
	if len(h.live) > 0 {
		t.Errorf("who has no connection is live: %v", h.live)
	}
}

func TestWhatAPeerSaidIsShownWithoutControlCharacters(t *testing.T) {
	if got := oneLine(errors.New("unrecognized response: \x1b[2Jna\x00\nno")); got != "unrecognized response: [2Jna no" {
		t.Errorf("%q", got)
	}
}

// turnedAway is a stream that a peer begins while it has begun one, and then does not read.
type turnedAway struct {
	network.Stream
	reset func()
}

func (s turnedAway) Conn() network.Conn { return fromPeer{p: "p"} }

func (s turnedAway) Reset() error {
	s.reset()
	return nil
}

type fromPeer struct {
	network.Conn
	p peer.ID
}

func (c fromPeer) RemotePeer() peer.ID { return c.p }

func TestNobodyWaitsForAPeerThatIsTurnedAway(t *testing.T) {
	h := &Host{meeting: map[peer.ID]bool{"p": true}}
	resets := 0
	h.serveMeet(t.Context(), turnedAway{reset: func() {
		resets++
		if !h.mu.TryLock() {
			t.Error("all wait until the peer reads")
			return
		}
		h.mu.Unlock()
	}})
	if resets != 1 {
		t.Errorf("the stream was reset %d times", resets)
	}
}
