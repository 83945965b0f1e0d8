package gossip

import (
	"fmt"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
)

func TestWhatAPeerDidWhileItWasAwayIsToldThoseItIsNotConnectedTo(t *testing.T) {
	hub, b, c := newMember(t, Options{}), newMember(t, Options{}), newMember(t, Options{})
	first, away := volumeAt(t, ours(t), "data", 1, "first"), volumeAt(t, ours(t), "data", 2, "done while away")
	hub.know(first)
	b.connect(hub)
	untilJoined(t, hub, b)
	b.untilAt(first)
	c.know(away)
	c.connect(hub)
	hub.untilAt(away)
	b.untilAt(away)
}

func TestWhatAnExchangeBroughtIsPassedOnWhenItComesOnTheTopicToo(t *testing.T) {
	a, from := newMember(t, Options{}), newMember(t, Options{})
	n := volumeAt(t, ours(t), "data", 1, "a state")
	data := must(n.encode())(t)
	m := &pubsub.Message{Message: &pb.Message{Data: data}}
	a.relay.put(from.p2p.ID(), [][]byte{data}, time.Now().Add(time.Hour))
	a.know(n)
	if got := a.validate(t.Context(), from.p2p.ID(), m); got != pubsub.ValidationAccept {
		t.Errorf("%v for what an exchange brought a moment ago", got)
	}
	if got := a.validate(t.Context(), from.p2p.ID(), m); got != pubsub.ValidationIgnore {
		t.Errorf("%v for what was passed on", got)
	}
	if messages, next := a.relay.due(time.Now().Add(time.Hour)); len(messages) > 0 || !next.IsZero() {
		t.Error("it is passed on twice")
	}
}

func TestWhatAHostHearsThatWasAwayIsNotPassedOn(t *testing.T) {
	a, from := newMember(t, Options{}), newMember(t, Options{})
	in := &intake{g: a.Gossip, from: from.p2p.ID()}
	for i := range mostRelayed + heardAtOnce {
		check(t, in.add(t.Context(), [][]byte{must(volumeAt(t, ours(t), fmt.Sprint(i), 1, "a state").encode())(t)}))
	}
	check(t, in.flush(t.Context()))
	if messages, _ := a.relay.due(time.Now().Add(time.Hour)); len(messages) > 0 {
		t.Errorf("%d messages are passed on", len(messages))
	}
}

func TestHostsThatAreConnectedToOneOnlyHearOfAllOthers(t *testing.T) {
	hub := newMember(t, Options{})
	var leaves []*member
	for range 30 {
		leaf := newMember(t, Options{})
		leaf.connect(hub)
		leaves = append(leaves, leaf)
	}
	for round := range uint64(2) {
		var all []news
		for i, leaf := range leaves {
			n := volumeAt(t, ours(t), fmt.Sprint(i), round+1, fmt.Sprint(round))
			leaf.publish(n)
			all = append(all, n)
		}
		for _, leaf := range leaves {
			for _, n := range all {
				leaf.untilAt(n)
			}
		}
	}
}

func TestWhatIsToldBetweenTwoHeartbeatsReachesWhoJustCame(t *testing.T) {
	hub, c := newMember(t, Options{}), newMember(t, Options{})
	first := volumeAt(t, ours(t), "first", 1, "a state")
	hub.know(first)
	c.connect(hub)
	c.untilAt(first)
	for i := range 8 {
		b, told := newMember(t, Options{}), volumeAt(t, ours(t), fmt.Sprint(i), 1, "a state")
		b.connect(hub)
		b.untilAt(first)
		c.publish(told)
		b.untilAt(told)
	}
}

func TestNoMoreIsPassedOnAtOnceThanAPeerMayTell(t *testing.T) {
	r, now := newRelay(), time.Unix(1700000000, 0)
	for i := range 2*relayedAtOnce + 1 {
		r.put("a peer", [][]byte{fmt.Append(nil, i)}, now)
	}
	for _, want := range []int{relayedAtOnce, relayedAtOnce, 1, 0} {
		all, next := r.due(now)
		if more := want == relayedAtOnce; len(all) != want || more == next.IsZero() {
			t.Errorf("%d messages are told, want %d; the next at %v", len(all), want, next)
		}
		for _, m := range all {
			r.take(idOf(m.message))
		}
	}
}
