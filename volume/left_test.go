package volume_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// errCrash is how a step ends at which a process does.
var errCrash = errors.New("crash")

// committing is a host whose volume data is mounted by docker:1, has a file, and is being committed, which goes on when a
// step's end is sent to go and has ended when did is closed.
func committing(t *testing.T) (h *host, goOn chan<- error, did <-chan struct{}) {
	t.Helper()
	h = newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data", User: "docker:1"}).Path, "a"), "1")
	reached, end, ended := make(chan struct{}), make(chan error), make(chan struct{})
	h.step = func(label string) error {
		if label != volume.StepImport {
			return nil
		}
		reached <- struct{}{}
		return <-end
	}
	go func() {
		defer close(ended)
		_, _ = h.Do(t.Context(), &volume.Commit{Name: "data"})
	}()
	<-reached
	h.step = nil
	return h, end, ended
}

// leave has a user be gone, who was asked for by nobody.
func (h *host) leave(name, user string) {
	h.t.Helper()
	if stays, err := h.Leave(name, user, ""); stays || err != nil {
		h.t.Fatalf("%s has not left %s: %v", user, name, err)
	}
}

func (h *host) wantUsers(name string, want ...string) {
	h.t.Helper()
	if got := h.users(name); !slices.Equal(got, want) {
		h.t.Errorf("users of %s are %q, want %q", name, got, want)
	}
}

func TestWhoLeavesDuringACommitHasLeftWhateverBecomesOfTheProcess(t *testing.T) {
	h, goOn, did := committing(t)
	for range 2 { // an engine may ask twice
		h.leave("data", "docker:1")
		h.wantUsers("data")
	}
	goOn <- errCrash
	<-did
	h.restart()
	h.wantUsers("data")
	h.wantFiles("data", files{"a": "1"})
	if i, err := h.Describe(t.Context(), "data"); err != nil || i.Base.Defined() || i.Mountpoint != "" {
		t.Errorf("it is mounted still: %+v, %v", i, err)
	}
	h.do(&volume.Remove{Name: "data"})
}

func TestWhoLeavesDuringACommitThatEndsWellHasLeft(t *testing.T) {
	h, goOn, did := committing(t)
	h.leave("data", "docker:1")
	goOn <- nil
	<-did
	h.wantUsers("data") // the commit recorded what it began with
	h.do(&volume.Unmount{Name: "data", Gone: true})
	h.wantUsers("data")
	h.wantFiles("data", files{"a": "1"})
	h.restart()
	h.wantUsers("data")
}

func TestAMountAfterSomebodyLeftIsAnotherOne(t *testing.T) {
	h, goOn, did := committing(t)
	h.leave("data", "docker:1")
	mounted := make(chan error, 1)
	go func() {
		_, err := h.Do(t.Context(), &volume.Mount{Name: "data", User: "docker:1"})
		mounted <- err
	}()
	goOn <- nil
	<-did
	h.must(<-mounted)
	h.wantUsers("data", "docker:1")
	h.do(&volume.Unmount{Name: "data", Gone: true}) // of the first one, and late
	h.wantUsers("data", "docker:1")
	h.restart()
	h.wantUsers("data", "docker:1")
	h.leave("data", "docker:1")
	h.wantUsers("data")
	h.do(&volume.Unmount{Name: "data", Gone: true})
	h.do(&volume.Remove{Name: "data"})
}

func TestWhoLeavesTakesNobodyAlong(t *testing.T) {
	h, goOn, did := committing(t)
	goOn <- nil
	<-did
	h.do(&volume.Mount{Name: "data", User: "me"})
	if _, err := h.Do(t.Context(), &volume.Rename{Name: "data", To: "other"}); !errors.Is(err, volume.ErrMounted) {
		t.Errorf("the volume of a container is renamed: %v", err)
	}
	h.leave("data", "docker:1")
	h.leave("data", "docker:3") // who never was there
	h.do(&volume.Unmount{Name: "data", Gone: true})
	h.wantUsers("data", "me")
	h.do(&volume.Rename{Name: "data", To: "other"})
	h.restart()
	h.wantUsers("other", "me")
	if _, err := h.Leave("data", "me", ""); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("of a volume that is not there: %v", err)
	}
	h.do(&volume.Remove{Name: "other", Force: true})
	h.do(&volume.Undelete{Name: "other"})
	h.wantUsers("other")
}

// meanwhile is a Mounter that does something else before it mounts.
type meanwhile struct {
	*mounttest.Copies
	do func()
}

func (m *meanwhile) Mount(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) error {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Copies.Mount(ctx, base, dir, o)
}

func TestWhoLeavesAVolumeThatIsJustBeingBroughtBackHasLeft(t *testing.T) {
	m := &meanwhile{Copies: mounttest.NewCopies()}
	h := newHost(t, m)
	h.do(&volume.Create{Name: "data"})
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data", User: "docker:1"}).Path, "a"), "1")
	h.close()
	m.do = func() {
		h.leave("data", "docker:1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nobody waits until the volume is back
		if _, err := h.Do(ctx, &volume.Unmount{Name: "data", Gone: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("unmounted while it is brought back: %v", err)
		}
	}
	h.open()
	h.must(h.Start(t.Context()))
	h.runUntil("committed", h.committed)
	h.wantFiles("data", files{"a": "1"})
}
