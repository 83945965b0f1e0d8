package outbox_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/outbox"
)

func TestOfFrequentPinsOfAGroupOnlyTheNewestGoesThrough(t *testing.T) {
	inTime(t, outbox.Options{Interval: 9700 * time.Millisecond}, func(t *testing.T, b *box) {
		for i := range 25 {
			b.pin(fmt.Sprint("v", i), "v")
			if i == 5 {
				b.pin("w", "w")
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		b.wantTold("pin v0", "pin w", "pin v9", "pin v19", "pin v24")
		if s := b.Stats(); s.Pinned != 5 || s.Replaced != 21 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPinsToBeKeptAreNotReplaced(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.pin("1", "v")
		synctest.Wait()
		b.set.away(true)
		b.pin("2", "v")
		b.keep("3", "v")
		b.pin("4", "v")
		b.keep("4", "v") // tagged afterwards
		b.pin("5", "v")
		b.pin("tag", "")
		b.pin("6", "v")
		synctest.Wait()
		b.set.away(false)
		time.Sleep(time.Hour)
		b.wantPinned("1", "3", "4", "6", "tag")
	})
}

func TestPinThatFailsAfterANewerOneWentThroughIsGivenUp(t *testing.T) {
	inTime(t, outbox.Options{Interval: time.Second}, func(t *testing.T, b *box) {
		slow := b.set.root("slow")
		b.set.setAnswer(func(_ string, root cid.Cid) error {
			if root == slow {
				time.Sleep(10 * time.Second)
				return errAway
			}
			return nil
		})
		b.pin("slow", "v")
		time.Sleep(2 * time.Second)
		b.pin("new", "v")
		time.Sleep(time.Hour)
		b.wantTold("pin slow", "pin new")
		b.wantWaiting()
	})
}

func TestNewerPinWaitsAsLongAsTheOneItReplaces(t *testing.T) {
	inTime(t, outbox.Options{Interval: time.Second, MinBackoff: time.Minute, MaxBackoff: time.Hour}, func(t *testing.T, b *box) {
		b.set.away(true)
		began := time.Now()
		b.pin("1", "v")
		synctest.Wait()
		time.Sleep(10 * time.Second)
		b.pin("2", "v")
		synctest.Wait()
		b.wantTold("pin 1") // the set is known to be away
		if w := b.Waiting()[0]; !w.Since.Equal(began) || w.Attempts != 1 || w.Error == "" {
			t.Errorf("%+v", w)
		}
		b.wantWaiting("pin 2 failed 1")
	})
}

func TestUnpinWaitsForThePinOfItsGroup(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.pin("old", "v")
		synctest.Wait()
		b.set.setAnswer(func(op string, _ cid.Cid) error {
			if op == "pin" {
				return errAway
			}
			return nil
		})
		b.pin("new", "v")
		b.unpin("old", "v")
		b.unpin("other", "w")
		time.Sleep(time.Hour)
		b.wantPinned("old")
		b.restart()
		time.Sleep(time.Minute)
		b.pin("newer", "v")
		time.Sleep(time.Minute)
		b.wantPinned("old")
		if w := b.Waiting(); len(w) != 2 || !w[1].Held {
			t.Errorf("waiting: %q", b.show())
		}
		b.set.away(false)
		b.Retry()
		synctest.Wait()
		b.wantPinned("newer")
		b.wantWaiting()
	})
}

func TestUnpinDoesNotWaitForAPinThatIsNotWantedAnyMore(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.set.setAnswer(func(op string, _ cid.Cid) error {
			if op == "pin" {
				return errAway
			}
			return nil
		})
		b.pin("new", "v")
		b.unpin("old", "v")
		synctest.Wait()
		b.unpin("new", "v")
		time.Sleep(time.Hour)
		b.wantWaiting()
	})
}

func TestPinThatTheNextOneWouldReplaceIsShownAndCanBeKept(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		if e, waits := b.Replaceable("v"); waits {
			t.Errorf("nothing was put, but %v waits", e)
		}
		b.set.away(true)
		b.pin("ours", "v")
		synctest.Wait()
		e, waits := b.Replaceable("v")
		if !waits || e.Pin.Root != b.set.root("ours") {
			t.Fatalf("%v, %v", e, waits)
		}
		e.Keep = true
		b.put(e)
		if e, waits := b.Replaceable("v"); waits {
			t.Errorf("%v is to be kept", e)
		}
		b.pin("theirs", "v")
		b.restart()
		synctest.Wait()
		b.set.away(false)
		time.Sleep(time.Hour)
		b.wantPinned("ours", "theirs")
	})
}
