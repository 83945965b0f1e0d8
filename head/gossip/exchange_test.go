package gossip

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
)

// equal looks that hosts know the same of volumes: names, heads and forks.
func equal(t *testing.T, members ...*member) {
	t.Helper()
	for _, m := range members[1:] {
		if newIndex(must(m.table.Volumes())(t)).root != newIndex(must(members[0].table.Volumes())(t)).root {
			t.Errorf("%s and %s know different things", members[0].p2p.ID(), m.p2p.ID())
		}
	}
}

// untilEqual waits until a host knows what another one does.
func (h *member) untilEqual(as *member) {
	h.t.Helper()
	want := newIndex(must(as.table.Volumes())(h.t)).root
	h.until("what "+as.p2p.ID().String()+" knows", func() bool {
		return newIndex(must(h.table.Volumes())(h.t)).root == want
	})
}

func TestHostsThatMeetTellEachOtherAll(t *testing.T) {
	a, b := newMember(t, Options{}), newMember(t, Options{})
	n := ours(t)
	var many []news
	for i := range 600 { // more than is told at once
		many = append(many, volumeAt(t, n, fmt.Sprintf("a%d", i), 1, "a state"))
	}
	a.know(many...)
	forked := volumeAt(t, n, "forked", 3, "a state")
	a.know(forked)
	forked.head = signed(t, must(n.DeriveKey("forked", 1))(t), 3, "another state")
	a.know(forked)
	b.know(forked)
	removed := volumeAt(t, n, "removed", 2, "the end")
	b.know(removed)
	removed.binding = must(n.Bind("removed", must(n.DeriveKey("removed", 1))(t), 2, 1))(t)
	a.know(removed)
	a.know(news{binding: must(n.Bind("without", must(n.DeriveKey("without", 1))(t), 1, 0))(t)})
	b.know(volumeAt(t, n, "b", 1, "a state"))

	b.connect(a)
	b.until("all of it", func() bool { return len(must(b.table.Volumes())(t)) == 604 })
	a.until("all of it", func() bool { return len(must(a.table.Volumes())(t)) == 604 })
	b.untilEqual(a)
	equal(t, a, b)
	if tips := b.tips(forked.binding.Volume); len(tips) != 2 {
		t.Errorf("%d tips of what has a fork", len(tips))
	}
	if v := must(b.table.Volume(removed.binding.Volume))(t); !v.Removed() || v.Head.Commit != removed.head.Commit {
		t.Errorf("%+v is not removed", v)
	}
}

func TestWhatWasDoneOnBothSidesOfAPartitionIsKnownEverywhereWhenItEnds(t *testing.T) {
	a, b := newMember(t, Options{}), newMember(t, Options{})
	a.connect(b)
	untilJoined(t, a, b)
	first := volumeAt(t, ours(t), "data", 1, "first")
	a.publish(first)
	b.untilAt(first)
	check(t, a.p2p.Network().ClosePeer(b.p2p.ID()))
	onA, onB := volumeAt(t, ours(t), "data", 2, "on a"), volumeAt(t, ours(t), "data", 2, "on b")
	a.publish(onA)
	b.publish(onB)
	a.connect(b)
	a.untilAt(onB)
	b.untilAt(onA)
	tips := func(m *member) []cid.Cid { return m.tips(first.binding.Volume) }
	if !slices.Equal(tips(a), tips(b)) {
		t.Errorf("%v on one host, %v on the other", tips(a), tips(b))
	}
	if head.Compare(onA.head, onB.head) > 0 != (tips(a)[0] == onA.head.Commit) {
		t.Error("the wrong head counts")
	}
}

func TestWhatCouldNotBeTakenOverIsToldAgain(t *testing.T) {
	a, b := newMember(t, Options{}), newMember(t, Options{})
	a.connect(b)
	untilJoined(t, a, b)
	b.refuseOnce(fmt.Errorf("the disk is full"))
	n := volumeAt(t, ours(t), "data", 1, "a state")
	a.publish(n)
	b.untilAt(n)
}

func TestAnExchangeThatFailsIsTriedAgain(t *testing.T) {
	a, b := newMember(t, Options{}), newMember(t, Options{})
	n := volumeAt(t, ours(t), "data", 1, "a state")
	a.know(n)
	b.refuseOnce(fmt.Errorf("the disk is full"))
	b.connect(a)
	b.untilAt(n)
}

func TestOfTheHeadsThatAHostMissedItIsToldTheLast(t *testing.T) {
	a, b := newMember(t, Options{}), newMember(t, Options{})
	first, last := volumeAt(t, ours(t), "data", 1, "first"), volumeAt(t, ours(t), "data", 1000, "last")
	same := volumeAt(t, ours(t), "same", 1, "a state")
	a.know(last, same)
	b.know(first, same)
	b.connect(a)
	b.untilAt(last)
	b.heardOnly(last)
	if n := b.learned(); n != 1 {
		t.Errorf("told %d heads", n)
	}
}
