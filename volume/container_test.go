package volume_test

import (
	"context"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// busy is a Mounter that cannot unmount while it is in use.
type busy struct {
	*mounttest.Copies
	inUse   atomic.Bool
	limited atomic.Bool // an unmount was given only so much time
}

func (b *busy) Unmount(ctx context.Context, dir string) error {
	if _, limited := ctx.Deadline(); limited {
		b.limited.Store(true)
	}
	if b.inUse.Load() {
		return volume.ErrInUse
	}
	return b.Copies.Unmount(ctx, dir)
}

func (h *host) users(name string) []string {
	h.t.Helper()
	i, err := h.Describe(h.t.Context(), name)
	h.must(err)
	return i.Users
}

func TestMountsOfContainersAreEndedTogetherOrNotAtAll(t *testing.T) {
	m := &busy{Copies: mounttest.NewCopies()}
	h := newHost(t, m)
	h.do(&volume.Create{Name: "data"})
	for _, user := range []string{"cli", "docker:1", "docker:2"} {
		path := h.do(&volume.Mount{Name: "data", User: user}).Path
		h.write(filepath.Join(path, "a"), user)
	}
	h.refused(&volume.Unmount{Name: "data", Containers: true}, volume.ErrMounted)
	h.do(&volume.Unmount{Name: "data"})
	m.inUse.Store(true)
	h.refused(&volume.Unmount{Name: "data", Containers: true}, volume.ErrInUse)
	if got := h.users("data"); len(got) != 2 {
		t.Errorf("while one of them uses it, users are %v", got)
	}
	m.inUse.Store(false)
	if res := h.do(&volume.Unmount{Name: "data", Containers: true}); !res.Created {
		t.Errorf("nothing is committed: %+v", res)
	}
	if got := h.users("data"); len(got) > 0 {
		t.Errorf("users are %v", got)
	}
}

func TestAUserWhoIsGoneIsForgottenAndTheUnmountIsMadeUpFor(t *testing.T) {
	m := &busy{Copies: mounttest.NewCopies()}
	h := newHost(t, m)
	h.do(&volume.Create{Name: "data"})
	path := h.do(&volume.Mount{Name: "data", User: "docker:1"}).Path
	h.write(filepath.Join(path, "a"), "1")
	m.inUse.Store(true)
	h.refused(&volume.Unmount{Name: "data", User: "docker:1"}, volume.ErrInUse)
	if got := h.users("data"); !slices.Equal(got, []string{"docker:1"}) {
		t.Errorf("a user whose unmount was refused: users are %v", got)
	}
	h.leave("data", "docker:1")
	h.refused(&volume.Unmount{Name: "data", Gone: true}, volume.ErrInUse)
	if got := h.users("data"); len(got) > 0 {
		t.Errorf("a user who is gone: users are %v", got)
	}
	if i, err := h.Describe(t.Context(), "data"); err != nil || i.Failure == nil || i.Failure.What != volume.FailedUnmount {
		t.Errorf("of the unmount that failed %+v is told, %v", i, err)
	}
	h.do(&volume.Rename{Name: "data", To: "other"})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		h.Run(ctx)
	}()
	m.inUse.Store(false)
	for deadline := time.Now().Add(20 * time.Second); len(h.files("other")) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is never unmounted")
		}
	}
	stop()
	<-ran
	h.wantFiles("other", files{"a": "1"})
	if i, err := h.Describe(t.Context(), "other"); err != nil || i.Failure != nil {
		t.Errorf("after it was unmounted %+v is told, %v", i, err)
	}
	if m.limited.Load() {
		t.Error("a commit that takes long is never made")
	}
}

func TestAUserWhoIsGoneIsForgottenByTheNextProcessToo(t *testing.T) {
	m := &busy{Copies: mounttest.NewCopies()}
	h := newHost(t, m)
	h.do(&volume.Create{Name: "data"})
	path := h.do(&volume.Mount{Name: "data", User: "docker:1"}).Path
	h.write(filepath.Join(path, "a"), "1")
	m.inUse.Store(true)
	h.leave("data", "docker:1")
	h.refused(&volume.Unmount{Name: "data", Gone: true}, volume.ErrInUse)
	m.inUse.Store(false)
	h.restart()
	h.wantFiles("data", files{"a": "1"})
	if i, err := h.Describe(t.Context(), "data"); err != nil || i.Base.Defined() {
		t.Errorf("its overlay is there still: %+v, %v", i, err)
	}
}

func TestContainersEndWithTheBootThatTheyWereMountedIn(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.boot = "first"
	h.restart()
	for _, name := range []string{"data", "both"} {
		h.do(&volume.Create{Name: name})
		h.write(filepath.Join(h.do(&volume.Mount{Name: name, User: "docker:1"}).Path, "a"), "1")
	}
	h.do(&volume.Mount{Name: "both", User: "cli"})
	h.restart()
	if got := h.users("data"); !slices.Equal(got, []string{"docker:1"}) {
		t.Errorf("in the same boot users are %v", got)
	}
	h.boot = "second"
	h.restart()
	if got := h.users("data"); len(got) > 0 {
		t.Errorf("in the next boot users are %v", got)
	}
	h.wantFiles("data", files{"a": "1"})
	if got := h.users("both"); !slices.Equal(got, []string{"cli"}) {
		t.Errorf("in the next boot users of the other are %v", got)
	}
	h.do(&volume.Mount{Name: "both", User: "docker:1"})
	h.restart()
	if got := h.users("both"); !slices.Equal(got, []string{"cli", "docker:1"}) {
		t.Errorf("mounted again in this boot: users are %v", got)
	}
}
