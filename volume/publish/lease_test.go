package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
)

// leases are those of one of several hosts that always hear each other.
type leases struct {
	host string
	mu   *sync.Mutex
	all  map[string]string // the host by the volume's ID
	asks int

	asked func() // nil, or called before an answer
}

var _ volume.Leases = (*leases)(nil)

func (l *leases) Acquire(_ context.Context, id string, steal bool) error {
	l.asks++
	if l.asked != nil {
		l.asked()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if holder := l.all[id]; holder != "" && holder != l.host && !steal {
		return fmt.Errorf("%w: it is %s", volume.ErrLeased, holder)
	}
	l.keep(id)
	return nil
}

func (l *leases) keep(id string) { l.all[id] = l.host; delete(l.all, ending+id) }

func (l *leases) Keep(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(id)
}

func (l *leases) End(id string, is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, ending+id)
	if is && l.all[id] == l.host {
		l.all[ending+id] = "yes"
	}
}

const ending = "ending "

func (l *leases) Release(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[id] == l.host {
		delete(l.all, id)
		delete(l.all, ending+id)
	}
}

func (l *leases) Holder(id string) *volume.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[id] == "" {
		return nil
	}
	return &volume.Lease{Peer: l.all[id], Here: l.all[id] == l.host, Ending: l.all[ending+id] != ""}
}

// leased are two hosts that know a volume and each other's leases.
func leased(t *testing.T) (a, b *host, ofA, ofB *leases) {
	_, a, b = shared(t)
	all, mu := map[string]string{}, new(sync.Mutex)
	ofA, ofB = &leases{host: "a", all: all, mu: mu}, &leases{host: "b", all: all, mu: mu}
	a.lease, b.lease = ofA, ofB
	a.restart()
	b.restart()
	return a, b, ofA, ofB
}

func (h *host) refused(op volume.Operation, want error) {
	h.t.Helper()
	if _, err := h.Do(h.t.Context(), op); !errors.Is(err, want) {
		h.t.Errorf("%s %+v: %v, want %v", volume.OperationName(op), op, err, want)
	}
}

func (h *host) wantLease(holder string, here, both bool) {
	h.t.Helper()
	l := h.info("data").Lease
	switch {
	case holder == "" && l != nil:
		h.t.Errorf("%+v has the lease", l)
	case holder != "" && (l == nil || l.Peer != holder || l.Here != here || l.Both != both):
		h.t.Errorf("the lease is %+v, want that of %s", l, holder)
	}
}

func TestOneHostWritesToAVolume(t *testing.T) {
	a, b, _, _ := leased(t)
	mount, unmount := &volume.Mount{Name: "data"}, &volume.Unmount{Name: "data"}
	a.do(mount)
	a.wantLease("a", true, false)
	b.wantLease("a", false, false)
	_, err := b.Do(t.Context(), mount)
	if !errors.Is(err, volume.ErrLeased) || !strings.Contains(err.Error(), "it is a\n") || !strings.Contains(err.Error(), "--steal") {
		t.Errorf("a second mount: %v", err)
	}
	if i := b.info("data"); i.Base.Defined() || len(i.Users) > 0 {
		t.Errorf("a refused mount leaves %+v", i)
	}
	b.do(&volume.Mount{Name: "data", ReadOnly: true})
	b.do(unmount)
	a.wantLease("a", true, false)

	a.do(&volume.Mount{Name: "data", User: "another"})
	a.do(unmount)
	b.refused(mount, volume.ErrLeased)
	a.do(&volume.Unmount{Name: "data", User: "another"})
	a.wantLease("", false, false)
	b.do(mount)
	a.refused(mount, volume.ErrLeased)
}

func TestAStolenVolumeIsMountedTwiceAndSaysSo(t *testing.T) {
	a, b, ofA, _ := leased(t)
	a.do(&volume.Mount{Name: "data"})
	b.do(&volume.Mount{Name: "data", Steal: true})
	b.wantLease("b", true, false)
	a.wantLease("b", false, true)
	asks := ofA.asks
	a.do(&volume.Mount{Name: "data", User: "another"}) // as it has it
	if ofA.asks != asks {
		t.Error("a mount of what is mounted asks for the lease")
	}
	a.do(&volume.Unmount{Name: "data", User: "another"})
	a.do(&volume.Unmount{Name: "data"})
	b.wantLease("b", true, false)
	a.do(&volume.Mount{Name: "data", Steal: true})
	b.wantLease("a", false, true)
}

func TestWhatAnotherHostWritesToIsNotRemoved(t *testing.T) {
	a, b, _, _ := leased(t)
	a.do(&volume.Mount{Name: "data"})
	b.refused(&volume.Remove{Name: "data"}, volume.ErrLeased)
	b.do(&volume.Remove{Name: "data", Force: true})
	a.wantLease("a", true, false)
	a.do(&volume.Remove{Name: "data", Force: true})
	b.do(&volume.Undelete{Name: "data"})
	b.wantLease("", false, false)
}

func TestWhatAnotherHostWritesToIsPassedOverWhenOthersAreRemoved(t *testing.T) {
	a, b, _, _ := leased(t)
	a.do(&volume.Mount{Name: "data"})
	b.do(&volume.Create{Name: "later"})
	for _, dry := range []bool{true, false} {
		res := b.do(&volume.Prune{DryRun: dry})
		if d := cmp.Diff([]string{"later"}, res.Removed); d != "" || !strings.Contains(res.Note, "another host, and not removed: data") {
			t.Errorf("dry run %v: %s, and says %q", dry, d, res.Note)
		}
	}
	b.info("data")
}

func TestWhatAnotherHostWritesToIsNotRolledBack(t *testing.T) {
	a, b, _, _ := leased(t)
	b.do(&volume.Rollback{Name: "data", To: b.info("data").Head.String()})
	a.learn()
	a.do(&volume.Mount{Name: "data"})
	before := b.info("data").Head
	b.refused(&volume.Rollback{Name: "data", To: before.String()}, volume.ErrLeased)
	if now := b.info("data").Head; now != before {
		t.Errorf("it is at %s, and was at %s", now, before)
	}
}

func TestAMountThatGoesOnKeepsItsLease(t *testing.T) {
	a, b, ofA, _ := leased(t)
	a.do(&volume.Mount{Name: "data"})
	delete(ofA.all, a.info("data").ID)
	asks := ofA.asks
	a.restart()
	a.wantLease("a", true, false)
	b.refused(&volume.Mount{Name: "data"}, volume.ErrLeased)
	if ofA.asks != asks {
		t.Error("a start asks for a lease")
	}
}

func TestAMountThatFailsGivesItsLeaseUp(t *testing.T) {
	a, b, ofA, _ := leased(t)
	a.must(os.RemoveAll(filepath.Join(a.dir, "volumes", "overlays")))
	a.refused(&volume.Mount{Name: "data"}, fs.ErrNotExist)
	if ofA.asks != 1 {
		t.Errorf("it was asked for %d times", ofA.asks)
	}
	b.do(&volume.Mount{Name: "data"})
}

func TestWhatIsReadOnlyAsksForNoLease(t *testing.T) {
	a, _, ofA, _ := leased(t)
	a.do(&volume.Mount{Name: "data", ReadOnly: true})
	a.wantLease("", false, false)
	a.restart()
	a.wantLease("", false, false)
	a.refused(&volume.Mount{Name: "data", User: "another", Steal: true}, volume.ErrMounted)
	a.wantLease("", false, false)
	if ofA.asks > 0 {
		t.Errorf("it was asked for %d times", ofA.asks)
	}
}

func TestAMountWaitsForWhatAnotherHostIsStillCommitting(t *testing.T) {
	a, b, ofA, ofB := leased(t)
	a.must(os.WriteFile(filepath.Join(a.do(&volume.Mount{Name: "data"}).Path, "f"), []byte("last"), 0o644))
	ofA.End(a.info("data").ID, true)
	ofB.asked = func() {
		if ofB.asks == 3 {
			a.do(&volume.Unmount{Name: "data"})
		}
	}
	b.do(&volume.Mount{Name: "data"})
	b.wantLease("b", true, false)
	if ofB.asks != 3 {
		t.Errorf("it was asked for %d times", ofB.asks)
	}
}

func TestALeaseEndsOnlyWithAllThatWasWritten(t *testing.T) {
	a, b, ofA, _ := leased(t)
	id := a.info("data").ID
	a.step = func(label string) error {
		if label == volume.StepPin {
			return fs.ErrInvalid
		}
		return nil
	}
	a.restart()
	a.must(os.WriteFile(filepath.Join(a.do(&volume.Mount{Name: "data"}).Path, "f"), []byte("last"), 0o644))
	_, err := a.Leave("data", volume.DefaultUser, "")
	a.must(err)
	a.refused(&volume.Unmount{Name: "data", Gone: true}, fs.ErrInvalid)
	if l := ofA.Holder(id); l == nil || !l.Ending {
		t.Errorf("the lease of what is not committed is %+v", l)
	}
	a.step = nil
	a.restart()
	a.wantLease("", false, false)
	b.learn()
	if !b.has("data", "f") {
		t.Error("what was written is not known elsewhere")
	}
}

func TestALeaseEndsWithItsVolume(t *testing.T) {
	a, b, ofA, _ := leased(t)
	id := a.info("data").ID
	var fails error
	a.step = func(label string) error {
		if label == volume.StepPin {
			return fails
		}
		return nil
	}
	a.restart()
	a.must(os.WriteFile(filepath.Join(a.do(&volume.Mount{Name: "data"}).Path, "f"), []byte("last"), 0o644))
	fails = fs.ErrInvalid
	_, err := a.Leave("data", volume.DefaultUser, "")
	a.must(err)
	a.refused(&volume.Unmount{Name: "data", Gone: true}, fs.ErrInvalid)
	fails = nil
	a.do(&volume.Remove{Name: "data"})
	if l := ofA.Holder(id); l != nil {
		t.Fatalf("the lease of what is removed is %+v", l)
	}
	b.learn()
	a.do(&volume.Undelete{Name: "data"})
	b.learn()
	b.do(&volume.Mount{Name: "data"})
}
