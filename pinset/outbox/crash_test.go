package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/outbox"
)

var errCrash = errors.New("crash")

// crasher ends a life at one step: from then on nothing is durable and the set is told nothing.
type crasher struct {
	mu    sync.Mutex
	count map[string]int
	at    string // label, and how often it is reached before the crash
	after int
	over  bool
}

func (c *crasher) step(label string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = map[string]int{}
	}
	if c.count[label]++; label == c.at && c.count[label] == c.after {
		c.over = true
	}
	if c.over {
		return errCrash
	}
	return nil
}

// aim has the life end when a step is taken for the nth time from now; at no step if the label is empty.
func (c *crasher) aim(label string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.after = label, c.count[label]+n
}

// again begins another life.
func (c *crasher) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = false
}

// insist puts a wish, in another life if one ends.
func (b *box) insist(c *crasher, e outbox.Entry) {
	b.t.Helper()
	err := b.Put(context.Background(), e)
	for errors.Is(err, errCrash) {
		b.revive(c)
		err = b.Put(context.Background(), e)
	}
	check(b.t, err)
}

// revive begins another life if this one is over. The queue is closed before: what it does then must come to nothing.
func (b *box) revive(c *crasher) {
	b.t.Helper()
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	if over {
		check(b.t, b.Close())
		c.again()
		b.open()
	}
}

// life puts wishes, however often it ends meanwhile, and checks what came of them.
func life(t *testing.T, c *crasher) {
	b := newBox(t, outbox.Options{Workers: 1, Step: c.step})
	pass := func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
		b.revive(c)
	}
	unpin := func(name string) outbox.Entry {
		e := b.pinOf(name, "v")
		e.Op = outbox.Unpin
		return e
	}
	b.insist(c, b.pinOf("v1", "v"))
	pass(time.Second)
	b.set.away(true)
	b.insist(c, b.pinOf("v2", "v"))
	b.insist(c, b.pinOf("tag", ""))
	pass(time.Minute)
	b.insist(c, b.pinOf("v3", "v"))
	b.insist(c, unpin("v1"))
	pass(time.Minute)
	b.set.away(false)
	pass(time.Hour)
	b.insist(c, unpin("tag"))
	pass(time.Hour)
	b.restart()
	pass(time.Hour)
	b.wantPinned("v3")
	b.wantWaiting()
}

func TestAfterAFaultAtAnyStepNoWishIsLost(t *testing.T) {
	counting := &crasher{}
	synctest.Test(t, func(t *testing.T) { life(t, counting) })
	for _, label := range []string{outbox.StepQueue, outbox.StepSend, outbox.StepRetry, outbox.StepDone} {
		if counting.count[label] == 0 {
			t.Errorf("step %s is never taken", label)
		}
		// A life that ends early may take more steps of a kind.
		for n := 1; n <= counting.count[label]; n++ {
			synctest.Test(t, func(t *testing.T) { life(t, &crasher{at: label, after: n}) })
			if t.Failed() {
				t.Fatalf("the life ended at step %s for the %dth time", label, n)
			}
		}
	}
}

// wishes is what must come of all that was put.
type wishes struct {
	must  map[string]bool   // pinned, or not; what is missing may be either
	group map[string]string // the newest pin of each group
}

func (w *wishes) put(name string, e outbox.Entry) {
	for g, newest := range w.group {
		if newest == name && (e.Op == outbox.Unpin || e.Group != g) {
			delete(w.group, g)
		}
	}
	switch {
	case e.Op == outbox.Unpin:
		w.must[name] = false
		return
	case e.Keep || e.Group == "":
		w.must[name] = true
	case !w.must[name]:
		delete(w.must, name)
	}
	if e.Group != "" {
		w.group[e.Group] = name
	}
}

func TestWhateverIsPutAndWheneverItEndsTheLastWishesComeTrue(t *testing.T) {
	seed := rand.Uint64()
	for round := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d,%d", seed, round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { random(t, rand.New(rand.NewPCG(seed, round))) })
		})
	}
}

func random(t *testing.T, r *rand.Rand) {
	c := &crasher{}
	b := newBox(t, outbox.Options{Step: c.step, Workers: 1 + r.IntN(4), Interval: time.Duration(r.IntN(20)) * time.Second})
	w := wishes{map[string]bool{}, map[string]string{}}
	labels := []string{outbox.StepQueue, outbox.StepSend, outbox.StepRetry, outbox.StepDone}
	for range 150 {
		if r.IntN(10) == 0 {
			c.aim(labels[r.IntN(len(labels))], 1+r.IntN(5))
		}
		if r.IntN(10) == 0 {
			away := r.IntN(2) == 0
			noise := r.Uint64()
			b.set.setAnswer(func(op string, root cid.Cid) error {
				if away || rand.New(rand.NewPCG(noise, uint64(len(op)))).IntN(2) == 0 {
					return errAway
				}
				return nil
			})
		}
		name := fmt.Sprint("r", r.IntN(8))
		e := b.pinOf(name, []string{"", "g", "h"}[r.IntN(3)])
		if e.Keep = r.IntN(4) == 0; r.IntN(3) == 0 {
			e.Op = outbox.Unpin
		}
		b.insist(c, e)
		w.put(name, e)
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(15_000)) * time.Millisecond)
			synctest.Wait()
		}
		if b.revive(c); r.IntN(20) == 0 {
			b.restart()
		}
	}
	c.aim("", 0)
	b.revive(c)
	b.set.away(false)
	time.Sleep(time.Hour)
	synctest.Wait()
	b.wantWaiting()
	pinned := map[string]bool{}
	for _, name := range b.set.pinned(t) {
		pinned[name] = true
	}
	for g, name := range w.group {
		if !pinned[name] {
			t.Errorf("%s, the newest of %s, is not pinned", name, g)
		}
	}
	for name, want := range w.must {
		if pinned[name] != want {
			t.Errorf("%s is pinned: %v", name, pinned[name])
		}
	}
}
