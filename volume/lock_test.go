package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// stuckCommit begins a commit that waits in its hook until release is called.
func (h *host) stuckCommit(name string) (release func()) {
	h.t.Helper()
	begun, may := filepath.Join(h.t.TempDir(), "begun"), filepath.Join(h.t.TempDir(), "may")
	hook := fmt.Sprintf("touch %s; until [ -e %s ]; do sleep 0.02; done", begun, may)
	ended := make(chan error)
	go func() {
		_, err := h.Do(h.t.Context(), &volume.Commit{Name: name, Hooks: volume.Hooks{Before: hook}})
		ended <- err
	}()
	h.awaits("the hook", func() bool { _, err := os.Stat(begun); return err == nil })
	return func() {
		h.t.Helper()
		h.write(may, "")
		h.must(<-ended)
	}
}

// awaits fails if something does not come true.
func (h *host) awaits(what string, is func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestWhoWaitsForABusyVolumeMayGoAway(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	release := h.stuckCommit("data")
	for _, op := range []volume.Operation{
		&volume.Unmount{Name: "data"}, &volume.Rename{Name: "data", To: "other"}, &volume.Clone{Name: "other", To: "data"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := h.Do(ctx, op); err == nil {
			t.Errorf("%s did not wait", volume.OperationName(op))
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Inspect(ctx, "data"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "data") {
		t.Errorf("inspected while a commit goes on: %v", err)
	}
	release()
	h.do(&volume.Unmount{Name: "data"})
	h.wantFiles("data", files{"a": "1"})
}

func TestTwoCommitsAtOnceMakeOneHistory(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	const commits = 8
	results := make(chan volume.Result, commits)
	for i := range commits {
		h.write(filepath.Join(dir, fmt.Sprint(i)), "x")
		go func() {
			res, err := h.Do(t.Context(), &volume.Commit{Name: "data"})
			if err != nil {
				t.Errorf("commit: %v", err)
			}
			results <- res
		}()
	}
	created := uint64(0)
	for range commits {
		if (<-results).Created {
			created++
		}
	}
	h.do(&volume.Unmount{Name: "data"})
	head := h.commitOf(h.resolve("data"))
	if created == 0 || head.Sequence != created+1 && head.Sequence != created+2 { // unmounting may have made one
		t.Errorf("%d commits were made, and the head is number %d", created, head.Sequence)
	}
	for n := head.Sequence; n > 1; n-- {
		c := h.commitOf(h.resolve(fmt.Sprintf("data@%d", n)))
		if parent := h.resolve(fmt.Sprintf("data@%d", n-1)); len(c.Parents) != 1 || c.Parents[0] != parent {
			t.Errorf("parents of commit %d are %v, not %s", n, c.Parents, parent)
		}
	}
}

func TestAnOperationBeforeTheStartBringsItsVolumeBack(t *testing.T) {
	c := mounttest.NewCopies()
	h := newHost(t, c)
	for _, name := range []string{"data", "other"} {
		h.do(&volume.Create{Name: name})
		h.do(&volume.Mount{Name: name})
	}
	h.close()
	var back []string
	h.started = func(i *volume.Info) { back = append(back, i.Name) }
	h.open()
	h.do(&volume.Commit{Name: "data"})
	if strings.Join(back, " ") != "data" {
		t.Errorf("back after a commit of data: %q", back)
	}
	h.must(h.Start(t.Context()))
	h.do(&volume.Commit{Name: "other"})
	if strings.Join(back, " ") != "data other" {
		t.Errorf("back after the start: %q", back)
	}
}

func TestAutomaticCommitsOfOneVolumeDoNotWaitForAnother(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	may := filepath.Join(t.TempDir(), "may")
	h.do(&volume.Create{Name: "a-slow", Options: map[string]string{
		"commit": "1s", "exec-before": fmt.Sprintf("until [ -e %s ]; do sleep 0.02; done", may),
	}})
	h.do(&volume.Create{Name: "quick", Options: map[string]string{"commit": "1s"}})
	for _, name := range []string{"a-slow", "quick"} {
		h.write(filepath.Join(h.do(&volume.Mount{Name: name}).Path, "a"), "1")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	for n := 2; n < 4; n++ {
		h.awaits("a commit", func() bool {
			_, err := h.Resolve(t.Context(), fmt.Sprintf("quick@%d", n))
			return err == nil
		})
		h.write(filepath.Join(h.do(&volume.Mount{Name: "quick"}).Path, "a"), "another")
	}
	if _, err := h.Resolve(t.Context(), "a-slow@2"); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("the slow one is committed: %v", err)
	}
	h.write(may, "")
	h.awaits("the slow commit", func() bool {
		_, err := h.Resolve(t.Context(), "a-slow@2")
		return err == nil
	})
	stop()
	<-ended
}
