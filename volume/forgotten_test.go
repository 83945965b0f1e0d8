package volume_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// usable are mounts of which it can be said whether somebody uses them.
type usable struct {
	*mounttest.Copies
	used  atomic.Bool
	looks atomic.Int32
}

var _ volume.UseFinder = (*usable)(nil)

func (u *usable) Used(context.Context, string) (bool, error) {
	u.looks.Add(1)
	return u.used.Load(), nil
}

// forgetful is a host whose volume data was mounted for users and has a file, and which looks after a moment whether
// somebody uses it.
func forgetful(t *testing.T, users ...string) (*host, *usable) {
	u := &usable{Copies: mounttest.NewCopies()}
	h := newHost(t, u)
	h.forgotten = 50 * time.Millisecond
	h.restart()
	h.do(&volume.Create{Name: "data"})
	for _, user := range users {
		h.write(filepath.Join(h.do(&volume.Mount{Name: "data", User: user, By: by(user)}).Path, "f"), "last")
	}
	return h, u
}

// by is who asks for a user's mounts: an engine, for containers.
func by(user string) string {
	if strings.HasPrefix(user, volume.ContainerUser) {
		return "engine"
	}
	return ""
}

// runUntil has a host do what it does by itself until something is so.
func (h *host) runUntil(what string, is func() bool) {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("never %s", what)
		}
	}
}

// committed reports whether what was written to data was committed for nobody any more.
func (h *host) committed() bool {
	i, err := h.Inspect(h.t.Context(), "data")
	h.must(err)
	return i.Sequence == 2 && len(i.Users) == 0 && !i.Base.Defined()
}

func TestAContainerThatEndedWhileNobodyListenedIsForgotten(t *testing.T) {
	h, _ := forgetful(t, "docker:1", "docker:2")
	h.restart()
	h.runUntil("committed", h.committed)
	h.wantFiles("data", files{"f": "last"})
	h.do(&volume.Remove{Name: "data"})
}

func TestAContainerThatUsesItsVolumeIsNotForgotten(t *testing.T) {
	h, u := forgetful(t, "docker:1", "docker:2")
	u.used.Store(true)
	h.restart()
	h.runUntil("looked at", func() bool { return u.looks.Load() > 0 })
	h.wantUsers("data", "docker:1", "docker:2")

	u.used.Store(false)
	h.leave("data", "docker:2") // and the other one ended unheard
	h.runUntil("committed", h.committed)
	h.wantFiles("data", files{"f": "last"})
}

func TestWhatAnotherEngineForgotIsFoundOnceItMountsAnything(t *testing.T) {
	h, u := forgetful(t)
	h.do(&volume.Create{Name: "other"})
	h.do(&volume.Mount{Name: "data", User: "docker:1", By: "first"})
	u.used.Store(true)
	h.runUntil("looked at", func() bool { return u.looks.Load() > 0 })
	u.used.Store(false)
	h.do(&volume.Mount{Name: "other", User: "docker:2", By: "second"})
	h.runUntil("forgotten", func() bool { return len(h.users("data")) == 0 })
}

func TestWhatPeopleMountedIsNotForgotten(t *testing.T) {
	h, u := forgetful(t, "docker:1", volume.DefaultUser)
	h.do(&volume.Create{Name: "other"})
	h.do(&volume.Mount{Name: "other", User: "docker:2", By: "engine"})
	h.restart()
	h.runUntil("looked at the other one", func() bool { return len(h.users("other")) == 0 })
	h.wantUsers("data", volume.DefaultUser, "docker:1")
	if u.looks.Load() != 1 {
		t.Errorf("it was looked %d times", u.looks.Load())
	}
}

func TestWhoCannotBeSeenIsNotForgotten(t *testing.T) {
	h, u := forgetful(t, "docker:1")
	h.do(&volume.Mount{Name: "data", User: "docker:2", By: "hidden"})
	h.do(&volume.Create{Name: "other"})
	h.do(&volume.Mount{Name: "other", User: "docker:3", By: "engine"})
	h.runUntil("looked at the other one", func() bool { return len(h.users("other")) == 0 })
	h.wantUsers("data", "docker:1", "docker:2")
	if u.looks.Load() != 1 {
		t.Errorf("it was looked %d times", u.looks.Load())
	}
}

func TestWhatCannotBeLookedAtOnceIsLookedAtAgain(t *testing.T) {
	for _, label := range []string{volume.StepUnmount, volume.StepUsers, volume.StepRetire} {
		for _, fails := range []error{errCrash, syscall.ENOSPC} {
			t.Run(fmt.Sprint(label, " ", fails), func(t *testing.T) {
				h, _ := forgetful(t, "docker:1")
				var failed atomic.Int32
				h.step = func(at string) error {
					if at == label && failed.Add(1) <= 2 {
						return fails
					}
					return nil
				}
				h.restart()
				h.runUntil("committed", h.committed)
				h.wantFiles("data", files{"f": "last"})
			})
		}
	}
}

func TestACrashWhileAContainerIsForgottenLosesNothing(t *testing.T) {
	for _, label := range []string{volume.StepUnmount, volume.StepUsers, volume.StepStore, volume.StepHead, volume.StepRetire} {
		t.Run(label, func(t *testing.T) {
			h, _ := forgetful(t, "docker:1", "docker:2")
			var crashes atomic.Int32
			h.step = func(at string) error {
				if at == label && crashes.Load() == 0 {
					crashes.Add(1)
					return errCrash
				}
				return nil
			}
			h.restart()
			h.runUntil("reached", func() bool { return crashes.Load() > 0 })
			h.restart()
			h.runUntil("committed", h.committed)
			h.wantFiles("data", files{"f": "last"})
			h.do(&volume.Remove{Name: "data"})
		})
	}
}
