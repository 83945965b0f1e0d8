package publish_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume"
)

// awaiting are two hosts of a volume with durability=cluster. The first one's replicas lag as long as lags says so, and
// what is committed is waited for no longer than a moment.
func awaiting(t *testing.T) (a, b *host, ofA *leases, lags *atomic.Bool) {
	a, b, ofA, _ = leased(t)
	lags = new(atomic.Bool)
	a.holds = func(ctx context.Context, _ cid.Cid) error {
		if !lags.Load() {
			return nil
		}
		<-ctx.Done()
		return errAway
	}
	a.restart()
	a.do(&volume.Set{Name: "data", Options: map[string]string{"durability": "cluster", "durability-timeout": "1s"}})
	return a, b, ofA, lags
}

// write mounts a volume, writes to it and unmounts it.
func (h *host) write(what string) volume.Result {
	h.t.Helper()
	path := h.do(&volume.Mount{Name: "data"}).Path
	h.must(os.WriteFile(filepath.Join(path, "f"), []byte(what), 0o644))
	return h.do(&volume.Unmount{Name: "data"})
}

// wantEnding wants the lease of data to be a host's that has it no more mounted, or nobody's if that is not so.
func (l *leases) wantEnding(t *testing.T, id string, is bool) {
	t.Helper()
	if h := l.Holder(id); is != (h != nil && h.Here && h.Ending) || !is && h != nil {
		t.Errorf("the lease is %+v, want it to be kept for replicas: %v", h, is)
	}
}

// runUntil has a host do what it does by itself until something is so.
func (h *host) runUntil(what string, is func() bool) {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("never %s", what)
		}
	}
}

func TestALeaseIsKeptUntilWhatWasCommittedIsReplicated(t *testing.T) {
	a, b, ofA, lags := awaiting(t)
	ofB := b.lease.(*leases)
	id := a.info("data").ID
	if res := a.write("one"); res.Lagging || a.info("data").Lease != nil {
		t.Errorf("replicated: %+v, lease %+v", res, a.info("data").Lease)
	}
	lags.Store(true)
	if res := a.write("two"); !res.Lagging {
		t.Errorf("not replicated: %+v", res)
	}
	for _, when := range []string{"after its time", "after a start", "after another one"} {
		ofA.wantEnding(t, id, true)
		waiting, giveUp := context.WithCancel(t.Context())
		ofB.asked = giveUp
		if _, err := b.Do(waiting, &volume.Mount{Name: "data"}); !errors.Is(err, volume.ErrLeased) || !strings.Contains(err.Error(), "replicated") {
			t.Errorf("%s a mount elsewhere: %v", when, err)
		}
		delete(ofA.all, id) // as after half a minute
		a.restart()
	}
	a.runUntil("said why", func() bool {
		f := a.info("data").Failure
		return f != nil && f.What == volume.FailedReplicas && f.Error == errAway.Error()
	})
	ofA.wantEnding(t, id, true)
	lags.Store(false)
	a.runUntil("replicated", func() bool { return ofA.Holder(id) == nil })
	if f := a.info("data").Failure; f != nil {
		t.Errorf("once it is replicated: %+v", f)
	}
	b.learn()
	b.do(&volume.Mount{Name: "data"})
	a.restart()
	b.wantLease("b", true, false)
}

func TestWhatIsNotReplicatedIsMountedAgainWhereItIs(t *testing.T) {
	a, _, ofA, lags := awaiting(t)
	id := a.info("data").ID
	lags.Store(true)
	a.write("one")
	a.do(&volume.Mount{Name: "data"})
	if l := ofA.Holder(id); l == nil || l.Ending {
		t.Errorf("mounted again: %+v", l)
	}
	if res := a.do(&volume.Unmount{Name: "data"}); res.Created {
		t.Errorf("nothing was written: %+v", res)
	}
	ofA.wantEnding(t, id, true)
	lags.Store(false)
	a.runUntil("replicated", func() bool { return ofA.Holder(id) == nil })
	a.restart()
	ofA.wantEnding(t, id, false)
}

func TestALeaseThatIsKeptForReplicasEndsWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		op   volume.Operation
		runs bool // it is found by what a host does by itself
	}{
		"another option": {&volume.Set{Name: "data", Options: map[string]string{"durability": "local"}}, true},
		"its removal":    {&volume.Remove{Name: "data"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, ofA, lags := awaiting(t)
			id := a.info("data").ID
			lags.Store(true)
			a.write("one")
			ofA.wantEnding(t, id, true)
			a.do(c.op)
			if c.runs {
				a.runUntil("ended", func() bool { return ofA.Holder(id) == nil })
			}
			ofA.wantEnding(t, id, false)
		})
	}
}

func TestWhatIsRolledBackIsReplicatedBeforeItIsMountedElsewhere(t *testing.T) {
	a, b, ofA, lags := awaiting(t)
	id := a.info("data").ID
	first := a.write("one").Commit
	a.write("two")
	lags.Store(true)
	if res := a.do(&volume.Rollback{Name: "data", To: first.String()}); !res.Lagging {
		t.Errorf("%+v", res)
	}
	ofA.wantEnding(t, id, true)
	b.learn()
	b.refused(&volume.Rollback{Name: "data", To: first.String()}, volume.ErrLeased)
	lags.Store(false)
	a.do(&volume.Rollback{Name: "data", To: first.String()})
	ofA.wantEnding(t, id, false)
}

func TestALeaseIsKeptUntilItIsRecordedThatItsCommitIsReplicated(t *testing.T) {
	a, _, ofA, lags := awaiting(t)
	id := a.info("data").ID
	lags.Store(true)
	a.write("one")
	lags.Store(false)
	var fails atomic.Int32
	a.step = func(label string) error {
		if label == volume.StepAwaited && fails.Add(1) < 3 {
			return fmt.Errorf("%s: %w", label, errAway)
		}
		return nil
	}
	a.restart()
	a.runUntil("tried", func() bool { return fails.Load() > 0 })
	ofA.wantEnding(t, id, true)
	a.restart()
	ofA.wantEnding(t, id, true)
	a.runUntil("recorded", func() bool { return ofA.Holder(id) == nil })
	a.restart()
	ofA.wantEnding(t, id, false)
}
