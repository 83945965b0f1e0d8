package flood

import (
	"fmt"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAPeerMaySendABurstAndThenItsRate(t *testing.T) {
	g := New(Options{Rate: 10, Burst: 20})
	now := time.Unix(1700000000, 0)
	passed := func() (n int) {
		for range 100 {
			if ok, _ := g.take("a", 1, now); ok {
				n++
			}
		}
		return n
	}
	if n := passed(); n != 20 {
		t.Errorf("%d of a burst passed", n)
	}
	now = now.Add(time.Second)
	if n := passed(); n != 10 {
		t.Errorf("%d passed a second later", n)
	}
	if ok, _ := g.take("b", 1, now); !ok || g.Score("b") != 0 {
		t.Error("another peer pays for it")
	}
	if g.Score("a") >= 0 {
		t.Errorf("score %v of a peer that sent too much", g.Score("a"))
	}
}

func TestWhoFloodsIsNotListenedToForAWhile(t *testing.T) {
	g := New(Options{Rate: 1000, Burst: 1})
	now := time.Unix(1700000000, 0)
	floods := 0
	for range 3 * maxExcess {
		if _, flooded := g.take("a", 1, now); flooded {
			floods++
		}
	}
	if floods != 1 {
		t.Errorf("it is told %d times that a peer floods", floods)
	}
	if ok, _ := g.take("a", 1, now.Add(banned-time.Second)); ok {
		t.Error("it is listened to before its time")
	}
	if ok, _ := g.take("a", 1, now.Add(banned+time.Minute)); !ok {
		t.Error("it is never listened to again")
	}
}

func TestOfPeersOnlySoManyAreRemembered(t *testing.T) {
	g := New(Options{})
	for i := range 3 * mostPeers {
		g.take(peer.ID(fmt.Sprint(i)), 1, time.Unix(1700000000, 0))
	}
	if len(g.peers) > mostPeers {
		t.Errorf("%d are remembered", len(g.peers))
	}
}

func TestWhatControlMessagesNameCounts(t *testing.T) {
	ids := make([]string, 6400)
	for what, c := range map[string]*pb.ControlMessage{
		"ihave":     {Ihave: []*pb.ControlIHave{{MessageIDs: ids}}},
		"iwant":     {Iwant: []*pb.ControlIWant{{MessageIDs: ids}}},
		"idontwant": {Idontwant: []*pb.ControlIDontWant{{MessageIDs: ids}}},
		"graft":     {Graft: make([]*pb.ControlGraft, 200)},
		"prune":     {Prune: make([]*pb.ControlPrune, 200)},
	} {
		g := New(Options{Burst: 50})
		if err := g.Inspect("a", &pubsub.RPC{RPC: pb.RPC{Control: c}}); err == nil {
			t.Errorf("%s: so much counts for nothing", what)
		}
	}
}
