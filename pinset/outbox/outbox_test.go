package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/statedb"
)

// inTime runs a test in a time of its own, which passes when all wait.
func inTime(t *testing.T, o outbox.Options, test func(t *testing.T, b *box)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newBox(t, o)) })
}

func TestWhatIsPutIsToldToTheSet(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.pin("a", "")
		b.pin("b", "v")
		synctest.Wait()
		b.wantPinned("a", "b")
		b.unpin("a", "")
		b.unpin("never pinned", "")
		synctest.Wait()
		b.wantPinned("b")
		b.wantWaiting()
	})
}

func TestPutDoesNotWaitForTheSet(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		back := make(chan struct{})
		b.set.setAnswer(func(string, cid.Cid) error { <-back; return nil })
		began := time.Now()
		for i := range 20 {
			b.pin(fmt.Sprint(i), "")
		}
		synctest.Wait()
		if time.Since(began) > 0 || len(b.Waiting()) != 20 {
			t.Errorf("after %s %d wait", time.Since(began), len(b.Waiting()))
		}
		if b.set.most != outbox.DefaultWorkers {
			t.Errorf("%d at once, want %d", b.set.most, outbox.DefaultWorkers)
		}
		close(back)
		synctest.Wait()
		b.wantWaiting()
	})
}

func TestFailuresAreTriedAgainForEverAndLessOften(t *testing.T) {
	o := outbox.Options{MinBackoff: time.Second, MaxBackoff: time.Minute}
	inTime(t, o, func(t *testing.T, b *box) {
		b.set.away(true)
		b.pin("a", "")
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		want := time.Second
		for i := 1; i < len(b.set.calls); i++ {
			gap := b.set.calls[i].at.Sub(b.set.calls[i-1].at)
			if gap < want/2 || gap > want {
				t.Errorf("attempt %d came %s after the one before, want %s at most", i+1, gap, want)
			}
			want = min(2*want, time.Minute)
		}
		w := b.Waiting()[0]
		if w.Attempts != len(b.set.calls) || w.Attempts < 2*60 || w.Error != errAway.Error() || time.Since(w.Since) != 2*time.Hour {
			t.Errorf("%+v after %d calls", w, len(b.set.calls))
		}
		if s := b.Stats(); s.Failed != uint64(w.Attempts) || s.LastError != w.Error || !s.Oldest.Equal(w.Since) || s.Waiting != 1 {
			t.Errorf("%+v", s)
		}
		b.restart()
		synctest.Wait()
		if again := b.Waiting()[0]; again.Attempts <= w.Attempts/2 || !again.Since.Equal(w.Since) {
			t.Errorf("after a restart: %+v", again)
		}
		b.set.away(false)
		b.Retry()
		synctest.Wait()
		b.wantPinned("a")
	})
}

func TestTheLastWishForARootIsWhatComesOfIt(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.set.away(true)
		b.pin("a", "")
		b.unpin("a", "")
		b.unpin("b", "")
		b.pin("b", "v")
		synctest.Wait()
		b.set.away(false)
		time.Sleep(time.Hour)
		b.wantPinned("b")
	})
}

func TestWishThatComesWhileTheSetIsToldTheOneBeforeIsToldAfterIt(t *testing.T) {
	for _, answer := range []error{nil, errAway} {
		inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
			back := make(chan struct{})
			b.set.setAnswer(func(string, cid.Cid) error { <-back; return answer })
			b.pin("a", "v")
			synctest.Wait()
			b.unpin("a", "v")
			b.pin("a", "")
			b.unpin("a", "")
			synctest.Wait()
			b.wantTold("pin a")
			b.set.away(false)
			close(back)
			time.Sleep(time.Hour)
			b.wantTold("pin a", "unpin a")
			b.wantPinned()
			b.wantWaiting()
		})
	}
}

func TestWaitReturnsWhenTheSetHasTakenIt(t *testing.T) {
	inTime(t, outbox.Options{Interval: time.Hour}, func(t *testing.T, b *box) {
		b.pin("1", "v")
		synctest.Wait()
		began := time.Now()
		b.pin("2", "v")
		st, err := b.Wait(t.Context(), b.set.root("2"), "")
		check(t, err)
		if st.State != pinset.Pinned || time.Since(began) > 0 {
			t.Errorf("%s after %s", st.State, time.Since(began))
		}
		if st, err = b.Wait(t.Context(), b.set.root("unknown"), ""); err != nil || st.State != pinset.Unpinned {
			t.Errorf("of what was never put: %s, %v", st.State, err)
		}
	})
}

func TestPinThatIsWaitedForIsNotReplaced(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.set.away(true)
		b.pin("1", "v")
		done := make(chan pinset.Status)
		go func() {
			st, err := b.Wait(t.Context(), b.set.root("1"), "")
			if err != nil {
				t.Error(err)
			}
			done <- st
		}()
		synctest.Wait()
		b.pin("2", "v")
		time.Sleep(time.Minute)
		b.set.away(false)
		if st := <-done; st.State != pinset.Pinned {
			t.Errorf("it is %s", st.State)
		}
		time.Sleep(time.Hour)
		b.wantPinned("1", "2")
	})
}

func TestWaitTellsWhyItWasInVain(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.set.away(true)
		b.pin("a", "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := b.Wait(ctx, b.set.root("a"), "")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errAway.Error()) {
			t.Errorf("%v", err)
		}
	})
}

func TestDrainTriesAllOnceMore(t *testing.T) {
	inTime(t, outbox.Options{Interval: time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour}, func(t *testing.T, b *box) {
		b.pin("1", "v")
		synctest.Wait()
		b.pin("2", "v")
		b.unpin("1", "v")
		b.set.away(true)
		b.pin("a", "")
		synctest.Wait()
		began := time.Now()
		if err := b.Drain(t.Context()); !errors.Is(err, outbox.ErrWaiting) {
			t.Errorf("%v, want ErrWaiting", err)
		}
		b.set.away(false)
		check(t, b.Drain(t.Context()))
		if time.Since(began) > 0 {
			t.Errorf("it took %s", time.Since(began))
		}
		b.wantPinned("2", "a")
	})
}

func TestASetThatDoesNotAnswerIsGivenUpInTime(t *testing.T) {
	inTime(t, outbox.Options{Timeout: time.Second, Workers: 1}, func(t *testing.T, b *box) {
		pin := func(ctx context.Context, e outbox.Entry) error {
			if e.Pin.Name == "stuck" {
				<-ctx.Done()
				return ctx.Err()
			}
			return b.set.Add(ctx, e.Pin)
		}
		b.o.Pin = pin
		b.restart()
		b.pin("stuck", "")
		synctest.Wait()
		b.pin("a", "")
		time.Sleep(time.Minute)
		b.wantPinned("a")
		if w := b.Waiting(); len(w) != 1 || w[0].Attempts < 2 || !strings.Contains(w[0].Error, "too long") {
			t.Errorf("%+v", w)
		}
	})
}

func TestAClosedQueueTakesNothingAndItsWishesGoOnLater(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		b.o.Pin = func(ctx context.Context, e outbox.Entry) error { <-ctx.Done(); return ctx.Err() }
		b.restart()
		b.pin("a", "")
		synctest.Wait()
		check(t, b.Close())
		if err := b.Put(t.Context(), b.pinOf("b", "")); !errors.Is(err, outbox.ErrClosed) {
			t.Errorf("put: %v", err)
		}
		if err := b.Close(); !errors.Is(err, outbox.ErrClosed) {
			t.Errorf("close: %v", err)
		}
		b.o.Pin = nil
		b.open()
		w := b.Waiting()
		synctest.Wait()
		b.wantPinned("a")
		if len(w) == 1 && w[0].Attempts != 0 {
			t.Errorf("closing counts as a failure: %+v", w)
		}
	})
}

func TestAllThatAPinSaysComesThroughARestart(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		want := outbox.Entry{
			Op: outbox.Pin, Group: "v", Keep: true, Args: map[string]string{"replicas": "2-3"},
			Pin: pinset.Pin{
				Root: b.set.root("a"), Owner: "volume/x", Name: "ü \"x\"", Meta: map[string]string{"": "y", "z": "\x00"},
				Created: time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC),
			},
		}
		for _, v := range []reflect.Value{reflect.ValueOf(want), reflect.ValueOf(want.Pin)} {
			for i := range v.NumField() {
				if v.Field(i).IsZero() {
					t.Fatalf("the test says nothing of %s", v.Type().Field(i).Name)
				}
			}
		}
		b.set.away(true)
		b.put(want)
		synctest.Wait()
		var got outbox.Entry
		b.o.Pin = func(_ context.Context, e outbox.Entry) error { got = e; return nil }
		b.restart()
		synctest.Wait()
		same := cmp.Options{cmp.Comparer(cid.Cid.Equals), cmp.Comparer(time.Time.Equal)}
		if diff := cmp.Diff(want, got, same); diff != "" {
			t.Errorf("(-put +told):\n%s", diff)
		}
	})
}

func TestOutcomesAreObserved(t *testing.T) {
	var all []outbox.Outcome
	inTime(t, outbox.Options{Observe: func(o outbox.Outcome) { all = append(all, o) }}, func(t *testing.T, b *box) {
		b.set.away(true)
		b.pin("a", "")
		synctest.Wait()
		b.set.away(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(all) != 2 || !errors.Is(all[0].Err, errAway) || all[1].Err != nil || all[1].Age == 0 || all[1].Entry.Pin.Name != "a" {
			t.Errorf("%+v", all)
		}
	})
}

func TestWhatIsNoWishIsRefused(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		for _, e := range []outbox.Entry{{Op: outbox.Pin}, {Op: outbox.Unpin}, {Pin: pinset.Pin{Root: pinsettest.Root(1)}}, {Op: "drop", Pin: pinset.Pin{Root: pinsettest.Root(1)}},
			{Op: outbox.Pin, Pin: pinset.Pin{Root: pinsettest.Root(1), Owner: "\xff"}},
		} {
			if err := b.Put(t.Context(), e); err == nil {
				t.Errorf("%+v was taken", e)
			}
		}
		b.wantWaiting()
	})
	if _, err := outbox.Open(t.TempDir()+"/x", outbox.Options{}); err == nil {
		t.Error("a queue for no set was opened")
	}
}

func TestQueueOfANewerProgramIsRefused(t *testing.T) {
	path := t.TempDir() + "/outbox.db"
	db, err := statedb.Open(path, 99)
	check(t, err)
	check(t, db.Close())
	if _, err := outbox.Open(path, outbox.Options{Set: newFaulty()}); !errors.Is(err, statedb.ErrNewer) {
		t.Errorf("%v, want ErrNewer", err)
	}
}

func TestOwnersOfOneRootHaveWishesOfTheirOwnWhichAreToldOneAfterAnother(t *testing.T) {
	inTime(t, outbox.Options{}, func(t *testing.T, b *box) {
		next := make(chan struct{})
		b.set.setAnswer(func(string, cid.Cid) error { <-next; return nil })
		of := func(op outbox.Op, owner string) outbox.Entry {
			e := b.pinOf("a", "")
			e.Op, e.Pin.Owner = op, owner
			return e
		}
		b.put(of(outbox.Pin, "x"))
		b.put(of(outbox.Pin, "y"))
		b.put(of(outbox.Pin, "z"))
		b.put(of(outbox.Unpin, "z"))
		b.pin("b", "")
		synctest.Wait()
		if got := b.set.told(); len(got) != 2 {
			t.Errorf("told at once: %q", got)
		}
		close(next)
		st, err := b.Wait(t.Context(), b.set.root("a"), "z")
		check(t, err)
		check(t, b.Drain(t.Context()))
		if st, err = b.set.Status(t.Context(), b.set.root("a")); err != nil || len(st.Pins) != 2 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
