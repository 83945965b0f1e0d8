package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volary/volary/volume"
)

// leases are those of one of several hosts that always hear each other.
type leases struct {
	host string
	all  map[string]string // the host by the volume's ID
	asks int
}

var _ volume.Leases = (*leases)(nil)

func (l *leases) Acquire(_ context.Context, id string, steal bool) error {
	l.asks++
	if holder := l.all[id]; holder != "" && holder != l.host && !steal {
		return fmt.Errorf("%w: it is %s", volume.ErrLeased, holder)
	}
	l.all[id] = l.host
	return nil
}

func (l *leases) Keep(id string) { l.all[id] = l.host }

func (l *leases) Release(id string) {
	if l.all[id] == l.host {
		delete(l.all, id)
	}
}

func (l *leases) Holder(id string) *volume.Lease {
	if l.all[id] == "" {
		return nil
	}
	return &volume.Lease{Peer: l.all[id], Here: l.all[id] == l.host}
}

// leased are two hosts that know a volume and each other's leases.
func leased(t *testing.T) (a, b *host, ofA, ofB *leases) {
	_, a, b = shared(t)
	all := map[string]string{}
	ofA, ofB = &leases{host: "a", all: all}, &leases{host: "b", all: all}
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
