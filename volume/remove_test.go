package volume_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

func TestARemovedVolumeComesBackUntilItsTimeIsOver(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"trash": "1h"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.do(&volume.Remove{Name: "data", Force: true})
	h.refused(&volume.Mount{Name: "data"}, volume.ErrNotFound)
	h.do(&volume.Create{Name: "data"})
	h.refused(&volume.Undelete{Name: "data"}, volume.ErrExist)
	h.do(&volume.Undelete{Name: "data", As: "old"})
	h.wantFiles("old", files{"a": "1"})

	h.do(&volume.Remove{Name: "old"})
	before := h.count()
	h.now = h.now.Add(2 * time.Hour)
	h.restart()
	h.refused(&volume.Undelete{Name: "old"}, volume.ErrNotFound)
	if after := h.count(); after >= before {
		t.Errorf("%d pins, and %d when the volume was gone for good", before, after)
	}
}

func (h *host) count() (n int) {
	for _, err := range h.pins.All(h.t.Context()) {
		h.must(err)
		n++
	}
	return n
}

func TestPruneTakesWhatNobodyHasMounted(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	for _, name := range []string{"a", "b", "c"} {
		h.do(&volume.Create{Name: name})
	}
	h.do(&volume.Mount{Name: "b"})
	if got := h.do(&volume.Prune{DryRun: true}).Removed; !cmp.Equal(got, []string{"a", "c"}) {
		t.Errorf("a dry run names %q", got)
	}
	if got := h.do(&volume.Prune{Names: []string{"c", "b", "none"}}).Removed; !cmp.Equal(got, []string{"c"}) {
		t.Errorf("of those that were named, removed %q", got)
	}
	if got := h.do(&volume.Prune{}).Removed; !cmp.Equal(got, []string{"a"}) {
		t.Errorf("removed %q", got)
	}
	all, err := h.List(t.Context(), volume.ListOptions{})
	h.must(err)
	if len(all) != 1 || all[0].Name != "b" {
		t.Errorf("left are %+v", all)
	}
}

func TestDiscardThrowsAwayOnlyWhatIsNotCommitted(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"commit": "manual"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.do(&volume.Commit{Name: "data"})
	h.write(filepath.Join(dir, "a"), "2")
	h.refused(&volume.Discard{Name: "data"}, volume.ErrMounted)
	h.do(&volume.Unmount{Name: "data"})
	h.do(&volume.Discard{Name: "data"})
	dir = h.do(&volume.Mount{Name: "data"}).Path
	if b, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(b) != "1" {
		t.Errorf("after discarding, a is %q, %v", b, err)
	}
}

func TestUnmountingDoesNotWaitForTheDeletionOfWhatChanged(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	for i := range 3000 {
		h.must(os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", i%40)), 0o700))
		h.write(filepath.Join(dir, strings.Repeat("d/", i%40), fmt.Sprint(i)), "x")
	}
	h.do(&volume.Unmount{Name: "data"})
	if _, err := os.Stat(filepath.Join(dir, "2960")); err != nil {
		t.Fatalf("unmounting deleted: %v", err)
	}
	given, cancel := context.WithCancel(t.Context())
	h.step = func(string) error { cancel(); return nil }
	if err := h.Sweep(given); !errors.Is(err, context.Canceled) {
		t.Fatalf("a sweep that is to end: %v", err)
	}
	begun := make(chan struct{})
	h.step = func(string) error { close(begun); return nil }
	h.restart()
	run, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(run) }()
	<-begun
	h.must(h.Sweep(t.Context())) // after the one that has begun
	stop()
	<-ended
	if left, err := os.ReadDir(filepath.Join(h.dir, "volumes", "overlays")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if n := len(h.files("data")); n != 3000 {
		t.Errorf("%d files are committed", n)
	}
}

func TestAVolumeThatIsPurgedLeavesNothingWhereverThatStops(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	empty := h.count()
	begin := func() {
		h.do(&volume.Create{Name: "data"})
		h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
		h.do(&volume.Unmount{Name: "data"})
	}
	begin()
	h.do(&volume.Remove{Name: "data", Purge: true})
	h.refused(&volume.Undelete{Name: "data"}, volume.ErrNotFound)
	if left := h.count(); left != empty {
		t.Errorf("%d pins, and %d when the volume was removed for good", empty, left)
	}
	for _, label := range []string{volume.StepRemove, volume.StepPurge} {
		begin()
		crash := errors.New("crash")
		h.step = func(reached string) error {
			if reached == label {
				return crash
			}
			return nil
		}
		h.refused(&volume.Remove{Name: "data", Purge: true}, crash)
		h.step = nil
		h.restart()
		if label == volume.StepRemove {
			h.wantFiles("data", files{"a": "1"})
		} else {
			h.do(&volume.Undelete{Name: "data"})
			h.wantFiles("data", files{"a": "1"})
			h.do(&volume.Remove{Name: "data"})
		}
		h.do(&volume.Remove{Name: "data", Purge: true})
		h.refused(&volume.Remove{Name: "data", Purge: true}, volume.ErrNotFound)
		if left := h.count(); left != empty {
			t.Errorf("stopped at %s: %d pins, and %d when the volume was removed for good", label, empty, left)
		}
	}
}

func TestANameWithAColonIsForVolumesThatHaveItAlready(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "a-b"})
	h.close()
	db, err := os.ReadFile(h.database())
	h.must(err)
	h.must(os.WriteFile(h.database(), bytes.ReplaceAll(db, []byte("a-b"), []byte("a:b")), 0o600))
	h.open()
	h.must(h.Start(t.Context()))
	h.write(filepath.Join(h.do(&volume.Mount{Name: "a:b"}).Path, "a"), "1")
	h.do(&volume.Unmount{Name: "a:b"})
	h.do(&volume.Remove{Name: "a:b"})
	h.refused(&volume.Create{Name: "a:b"}, volume.ErrInvalid)
	h.do(&volume.Undelete{Name: "a:b"})
	h.wantFiles("a:b", files{"a": "1"})
	h.refused(&volume.Rename{Name: "a:b", To: "b:a"}, volume.ErrInvalid)
	h.do(&volume.Rename{Name: "a:b", To: "b"})
}
