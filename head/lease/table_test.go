package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/namespace"
)

func ours(t testing.TB) *namespace.Namespace {
	return must(namespace.Open(namespace.Secret{1, 2, 3}))(t)
}

func volume(t testing.TB, name string) ipns.Name {
	key := must(ours(t).DeriveKey(name, 1))(t)
	return must(namespace.NameOf(key))(t)
}

// hostID is a peer ID; of two names the smaller one's is the smaller.
func hostID(t testing.TB, name string) peer.ID {
	id := must(peer.IDFromBytes(append([]byte{0, byte(len(name))}, name...)))(t)
	return id
}

// clock is everybody's, and stands still unless it is set.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// member is a host without a network: the test carries what it says.
type member struct {
	*Leases
	t testing.TB
}

func newMember(t testing.TB, c *clock, id string) *member {
	t.Helper()
	l := must(New(Options{Self: hostID(t, id), Namespace: ours(t), Host: "machine-" + id, Now: func() time.Time { return c.now }}))(t)
	return &member{l, t}
}

func (m *member) says() []byte {
	m.t.Helper()
	return must(m.message())(m.t)
}

// tells has others hear what a host says now.
func (m *member) tells(others ...*member) {
	m.t.Helper()
	data := m.says()
	for _, o := range others {
		check(m.t, o.hear(m.o.Self, data))
	}
}

// takes has a host acquire the lease of a volume while nobody hears it.
func (m *member) takes(v ipns.Name, steal bool) {
	m.t.Helper()
	check(m.t, m.Acquire(m.t.Context(), v, steal))
}

func (m *member) refused(v ipns.Name, by *member) {
	m.t.Helper()
	err := m.Acquire(m.t.Context(), v, false)
	var held *HeldError
	if !errors.As(err, &held) || held.Holder.Peer != by.o.Self {
		m.t.Errorf("%s asks: %v, want that %s has it", m.o.Host, err, by.o.Host)
	}
}

// knows fails unless a host takes another for the holder; nil: nobody.
func (m *member) knows(v ipns.Name, holder *member) {
	m.t.Helper()
	h, is := m.Holder(v)
	switch {
	case holder == nil && is:
		m.t.Errorf("%s takes %s for the holder", m.o.Host, h.Host)
	case holder != nil && (!is || h.Peer != holder.o.Self || h.Here != (m == holder) || h.Host != holder.o.Host):
		m.t.Errorf("%s takes %+v for the holder, want %s", m.o.Host, h, holder.o.Host)
	}
}

func three(t testing.TB) (*clock, ipns.Name, *member, *member, *member) {
	c := &clock{time.Unix(1700000000, 0)}
	return c, volume(t, "db"), newMember(t, c, "a"), newMember(t, c, "b"), newMember(t, c, "c")
}

func TestALeaseIsRefusedWhileAnotherHostHasIt(t *testing.T) {
	c, db, a, b, _ := three(t)
	a.takes(db, false)
	a.takes(db, false) // which it has
	a.tells(b)
	a.knows(db, a)
	b.knows(db, a)
	b.refused(db, a)
	b.takes(volume(t, "another"), false)
	until := c.now.Add(DefaultDuration)
	if h, _ := b.Holder(db); !h.Until.Equal(until) {
		t.Errorf("until %s, want %s", h.Until, until)
	}
	text := b.Acquire(t.Context(), db, false).Error()
	for _, part := range []string{"machine-a", hostID(t, "a").String(), until.Format(time.TimeOnly)} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

func TestWhoDoesNotWaitForALeaseHasWhatItHadBefore(t *testing.T) {
	_, db, a, b, _ := three(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, steal := range []bool{false, true} {
		if err := a.Acquire(gone, db, steal); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		a.knows(db, nil)
	}
	a.takes(db, false)
	if err := a.Acquire(gone, db, true); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	a.knows(db, a)
	b.takes(db, false)
	b.tells(a)
	if err := a.Acquire(gone, db, true); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	a.knows(db, a)
	if c := a.table.own[db]; c != (claim{}) {
		t.Errorf("it has %+v after what it did not wait for", c)
	}
}

func TestALeaseExpiresUnlessItIsRenewed(t *testing.T) {
	c, db, a, b, _ := three(t)
	a.takes(db, false)
	a.tells(b)
	c.pass(DefaultDuration - time.Second)
	b.refused(db, a)
	a.tells(b)
	c.pass(DefaultDuration - time.Second)
	b.refused(db, a)
	c.pass(time.Second)
	b.knows(db, nil)
	b.takes(db, false)
	b.knows(db, b)
}

func TestAReleasedLeaseCanBeTaken(t *testing.T) {
	_, db, a, b, _ := three(t)
	a.takes(db, false)
	a.tells(b)
	a.Release(db)
	a.knows(db, nil)
	b.refused(db, a) // until it hears of that
	a.tells(b)
	b.takes(db, false)
}

func TestAStolenLeaseIsGivenUp(t *testing.T) {
	_, db, a, b, c := three(t)
	a.takes(db, false)
	a.tells(b, c)
	before := a.says()
	b.takes(db, true)
	b.tells(a)
	a.knows(db, b)
	check(t, c.hear(a.o.Self, before))
	b.tells(c)
	c.knows(db, b) // though it has not heard that a gave it up
	a.tells(b, c)
	b.knows(db, b)
	c.refused(db, b)
	a.refused(db, b)

	late := b.says()
	a.takes(db, true)
	check(t, a.hear(b.o.Self, late)) // b has not heard of that
	a.tells(b)
	b.tells(a, c)
	a.tells(c)
	for _, m := range []*member{a, b, c} {
		m.knows(db, a)
	}
	b.Release(db)
	a.tells(b)
	b.knows(db, a)
}

func TestStealingWhatNobodyHoldsIsAsking(t *testing.T) {
	_, db, a, b, _ := three(t)
	a.takes(db, true)
	a.tells(b)
	b.takes(db, true)
	b.tells(a)
	a.knows(db, b)
	b.takes(db, true) // which it has
	b.tells(a)
	a.knows(db, b)
}

func TestOfTwoThatStealAtOnceOneHasIt(t *testing.T) {
	for _, order := range []string{"ab", "ba"} {
		_, db, a, b, c := three(t)
		c.takes(db, false)
		c.tells(a, b)
		a.takes(db, true)
		b.takes(db, true)
		if order == "ab" {
			a.tells(b, c)
			b.tells(a, c)
		} else {
			b.tells(a, c)
			a.tells(b, c)
		}
		for _, m := range []*member{a, b, c} {
			m.knows(db, a)
		}
	}
}

// TestOfTwoThatAskAtOnceOneGetsIt has two hosts ask, exchange what they say as an exchange over a stream does, and
// confirm, in every order of these steps.
func TestOfTwoThatAskAtOnceOneGetsIt(t *testing.T) {
	var orders [][]int // of 0 for a step of the first host, 1 for one of the other
	var add func(order []int, first, second int)
	add = func(order []int, first, second int) {
		if first == 0 && second == 0 {
			orders = append(orders, order)
			return
		}
		if first > 0 {
			add(append(order[:len(order):len(order)], 0), first-1, second)
		}
		if second > 0 {
			add(append(order[:len(order):len(order)], 1), first, second-1)
		}
	}
	const steps = 4 // ask, send, receive the answer, confirm
	add(nil, steps, steps)
	for _, order := range orders {
		_, db, a, b, _ := three(t)
		hosts := []*member{a, b}
		var at [2]int
		var answers [2][]byte
		var errs [2]error
		for _, i := range order {
			own, other := hosts[i], hosts[1-i]
			at[i]++
			if errs[i] != nil {
				continue
			}
			switch at[i] {
			case 1:
				_, errs[i] = own.table.ask(db, false)
			case 2:
				own.tells(other)
				answers[i] = other.says()
			case 3:
				if err := own.hear(other.o.Self, answers[i]); err != nil && !errors.Is(err, errOld) {
					t.Fatal(err)
				}
			case 4:
				errs[i] = own.table.confirm(db)
			}
		}
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("in the order %v the two got %v and %v", order, errs[0], errs[1])
		}
	}
}

func TestTwoThatWriteWithoutHavingHeardOfEachOtherGoOn(t *testing.T) {
	_, db, a, b, c := three(t)
	a.takes(db, false)
	b.takes(db, false)
	a.tells(b, c)
	b.tells(a, c)
	a.knows(db, a)
	b.knows(db, b)
	c.refused(db, a)
	a.Release(db)
	a.tells(b, c)
	c.refused(db, b)
	a.refused(db, b)
}

func TestAHostThatStartsAgainKeepsWhatItHas(t *testing.T) {
	c, db, a, b, _ := three(t)
	a.takes(db, false)
	a.tells(b)
	a = newMember(t, c, "a")
	c.pass(time.Second)
	a.Keep(db)
	a.knows(db, a)
	a.tells(b)
	c.pass(DefaultDuration - time.Second)
	b.refused(db, a)
}

func TestAHostThatStartsWithAnEarlierClockIsHeardOnceItsLeasesAreOver(t *testing.T) {
	c, db, a, b, _ := three(t)
	a.takes(db, false)
	a.tells(b)
	earlier := &clock{c.now.Add(-24 * time.Hour)}
	a = newMember(t, earlier, "a")
	if err := b.hear(a.o.Self, a.says()); !errors.Is(err, errOld) {
		t.Errorf("%v, want %v", err, errOld)
	}
	c.pass(DefaultDuration)
	a.Keep(db)
	a.tells(b)
	b.refused(db, a)
}

func TestWhatIsReplayedOrForgedIsNotHeard(t *testing.T) {
	c, db, a, b, mallory := three(t)
	a.takes(db, false)
	old := a.says()
	a.Release(db)
	a.tells(b)
	if err := b.hear(a.o.Self, old); !errors.Is(err, errOld) {
		t.Errorf("replayed: %v, want %v", err, errOld)
	}
	if err := b.hear(mallory.o.Self, a.says()); !errors.Is(err, ErrFormat) {
		t.Errorf("said by another host: %v, want %v", err, ErrFormat)
	}
	forged := a.says()
	forged[len(forged)-1] ^= 1
	if err := b.hear(a.o.Self, forged); !errors.Is(err, namespace.ErrFormat) && !errors.Is(err, ErrFormat) && !errors.Is(err, namespace.ErrSignature) {
		t.Errorf("changed: %v", err)
	}
	other := must(New(Options{
		Self: a.o.Self, Namespace: must(namespace.Open(namespace.Secret{9}))(t), Now: func() time.Time { return c.now },
	}))(t)
	other.Keep(db)
	if err := b.hear(a.o.Self, must(other.message())(t)); !errors.Is(err, namespace.ErrSignature) {
		t.Errorf("signed by another namespace: %v, want %v", err, namespace.ErrSignature)
	}
	b.knows(db, nil)
}

func TestWhoMayOnlyReadHoldsNothing(t *testing.T) {
	_, db, a, _, _ := three(t)
	reader := must(New(Options{Self: hostID(t, "r"), Namespace: must(namespace.OpenReadOnly(ours(t).PublicKey()))(t)}))(t)
	reader.Keep(db)
	if data := must(reader.message())(t); len(data) > 0 {
		t.Errorf("it says %q", data)
	}
	a.takes(db, false)
	check(t, reader.hear(a.o.Self, a.says()))
	if h, _ := reader.Holder(volume(t, "another")); h.Peer != "" {
		t.Errorf("%v", h)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	c, db, _, b, _ := three(t)
	claims := func(host, n int) map[ipns.Name]claim {
		all := map[ipns.Name]claim{}
		for i := range n {
			all[ipns.NameFromPeer(hostID(t, fmt.Sprintf("%d of %d", i, host)))] = claim{}
		}
		return all
	}
	say := func(host, n int) error {
		id := hostID(t, fmt.Sprint("host ", host))
		_, err := b.table.hear(id, message{peer: id, counter: 1, duration: time.Minute, claims: claims(host, n)})
		return err
	}
	for i := range mostLeases / MaxVolumes {
		check(t, say(i, MaxVolumes))
	}
	if err := say(-1, 1); !errors.Is(err, errMany) {
		t.Errorf("one lease more: %v, want %v", err, errMany)
	}
	for i := mostLeases / MaxVolumes; i < mostPeers; i++ {
		check(t, say(i, 0))
	}
	if err := say(-1, 0); !errors.Is(err, errMany) {
		t.Errorf("one host more: %v, want %v", err, errMany)
	}
	b.takes(db, false)
	c.pass(time.Minute)
	check(t, say(-1, MaxVolumes))
	if n := b.table.total; n != MaxVolumes || len(b.table.others) != 1 {
		t.Errorf("%d leases of %d hosts are remembered", n, len(b.table.others))
	}
}

func TestMoreThanAHostMayHoldIsWrittenToWithoutALease(t *testing.T) {
	_, _, a, b, _ := three(t)
	var last ipns.Name
	for i := range MaxVolumes + 1 {
		last = volume(t, fmt.Sprint("v", i))
		must(a.table.ask(last, false))(t)
		check(t, a.table.confirm(last))
	}
	a.tells(b)
	b.knows(volume(t, "v0"), a)
	a.knows(last, nil)
	b.knows(last, nil)
}

func TestWhoIsAboutToGiveALeaseUpSaysSoUntilItIsWantedAgain(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	a, b, v := newMember(t, c, "a"), newMember(t, c, "b"), volume(t, "v")
	ending := func(when string, want bool) {
		t.Helper()
		a.tells(b)
		for of, m := range map[string]*member{"the host itself": a, "the other one": b} {
			if h, is := m.Holder(v); !is || h.Peer != a.o.Self || h.Ending != want {
				t.Errorf("%s: %s says %+v, %v; want ending %v", when, of, h, is, want)
			}
		}
	}
	a.takes(v, false)
	a.End(v, true)
	ending("unmounted", true)
	a.End(v, false)
	ending("unmounted in vain", false)
	a.End(v, true)
	a.takes(v, false)
	ending("mounted again", false)
	b.End(v, true)
	ending("another one ends it", false)
	a.Release(v)
	a.End(v, true)
	a.tells(b)
	if h, is := b.Holder(v); is {
		t.Errorf("given up: %+v has it", h)
	}
}

func TestWhoOnlyCommitsYieldsToWhoTookTheLeaseMeanwhile(t *testing.T) {
	c, db, a, b, third := three(t)
	a.takes(db, false)
	a.End(db, true)
	a.tells(b)
	c.pass(DefaultDuration)
	b.takes(db, false)
	a = newMember(t, c, "a") // after it was away
	a.Keep(db)
	a.End(db, true)
	a.tells(b, third)
	b.knows(db, b)
	b.tells(a, third)
	a.knows(db, b)
	third.knows(db, b)
	a.refused(db, b)
}
