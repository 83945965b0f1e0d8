package publish_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
)

// failsToMount has mounts of a host fail, until it is called again with false.
func (h *host) failsToMount(is bool) {
	h.step = func(label string) error {
		if is && label == volume.StepMount {
			return fs.ErrInvalid
		}
		return nil
	}
	h.restart()
}

func TestAfterAMountThatFailedTheNextOneBeginsAtTheNewestState(t *testing.T) {
	for _, lower := range []string{volume.LowerLazy, volume.LowerFull} {
		t.Run(lower, func(t *testing.T) {
			a, b, _, ofB := leased(t)
			b.do(&volume.Set{Name: "data", Options: map[string]string{"lower": lower}})
			b.failsToMount(true)
			b.refused(&volume.Mount{Name: "data"}, fs.ErrInvalid)
			if l := ofB.Holder(b.info("data").ID); l != nil {
				t.Errorf("what could not be mounted is leased: %+v", l)
			}
			a.learn()
			newest := a.change("data", "f", "newer")
			b.learn()
			b.failsToMount(false)
			b.do(&volume.Mount{Name: "data"})
			if i := b.info("data"); i.Base.Cid != newest || !b.has("data", "f") {
				t.Errorf("it is mounted at %s, and the newest state is %s", i.Base, newest)
			}
			b.do(&volume.Unmount{Name: "data"})
			a.learn()
			if head := a.info("data").Head.Cid; head != newest {
				t.Errorf("nothing was written, and the head is %s instead of %s", head, newest)
			}
		})
	}
}

func TestACopyOfABaseIsGoneOnWithUntilThatIsOld(t *testing.T) {
	_, b, _, _ := leased(t)
	b.do(&volume.Set{Name: "data", Options: map[string]string{"lower": volume.LowerFull}})
	b.failsToMount(true)
	b.refused(&volume.Mount{Name: "data"}, fs.ErrInvalid)
	overlays := func() (names []string) {
		es, err := os.ReadDir(filepath.Join(b.dir, "volumes", "overlays"))
		b.must(err)
		for _, e := range es {
			names = append(names, e.Name())
		}
		return names
	}
	before := overlays()
	b.do(&volume.Unmount{Name: "data", Gone: true}) // as a driver does whose engine did not wait
	b.failsToMount(false)
	b.do(&volume.Mount{Name: "data"})
	if d := cmp.Diff(before, overlays()); d != "" {
		t.Errorf("the copy was begun anew: %s", d)
	}
}

func TestALeaseIsKeptBetweenTheEndOfAContainerAndItsCommit(t *testing.T) {
	a, _, ofA, _ := leased(t)
	id := a.info("data").ID
	var fails error
	a.step = func(label string) error {
		if label == volume.StepImport {
			return fails
		}
		return nil
	}
	a.restart()
	a.must(os.WriteFile(filepath.Join(a.do(&volume.Mount{Name: "data", User: "docker:1"}).Path, "f"), []byte("last"), 0o644))
	if _, err := a.Leave("data", "docker:1", ""); err != nil {
		t.Fatal(err)
	}
	fails = fs.ErrInvalid
	if _, err := a.Do(t.Context(), &volume.Mount{Name: "data", ReadOnly: true}); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("mounted: %v", err)
	}
	if l := ofA.Holder(id); l == nil || !l.Ending {
		t.Errorf("the lease of what is not committed is %+v", l)
	}
	fails = nil
	a.do(&volume.Unmount{Name: "data", Gone: true})
	a.wantLease("", false, false)
}

func TestWhatIsRenamedBeforeItsUnmountIsCommittedAllTheSame(t *testing.T) {
	a, b, ofA, _ := leased(t)
	id := a.info("data").ID
	a.must(os.WriteFile(filepath.Join(a.do(&volume.Mount{Name: "data", User: "docker:1"}).Path, "f"), []byte("last"), 0o644))
	if _, err := a.Leave("data", "docker:1", ""); err != nil {
		t.Fatal(err)
	}
	a.do(&volume.Rename{Name: "data", To: "renamed"})
	a.refused(&volume.Unmount{Name: "data", Gone: true}, volume.ErrNotFound)
	a.runUntil("committed", func() bool { return ofA.Holder(id) == nil })
	b.learn()
	if !b.has("renamed", "f") {
		t.Error("what was written last is lost")
	}
}

func TestALeaseIsKeptAsSoonAsTheVolumesAreOpen(t *testing.T) {
	a, b, ofA, _ := leased(t)
	id := a.info("data").ID
	a.do(&volume.Mount{Name: "data"})
	a.close()
	ofA.Release(id)
	a.open()
	b.refused(&volume.Mount{Name: "data"}, volume.ErrLeased)
	a.must(a.Start(t.Context()))
}
