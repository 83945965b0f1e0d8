package volume_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

func TestEachRuleKeepsTheNewestOfItsPeriods(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.now = time.Date(2026, 3, 1, 10, 0, 0, 0, time.Local)
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	for i, after := range []time.Duration{0, 10 * time.Minute, 2 * time.Hour, 24 * time.Hour, 8 * 24 * time.Hour, 40 * 24 * time.Hour} {
		h.now = time.Date(2026, 3, 1, 10, 5, i, 0, time.Local).Add(after)
		h.write(filepath.Join(dir, "a"), strings.Repeat("x", i+1))
		h.do(&volume.Commit{Name: "data"})
	}
	h.do(&volume.Tag{Name: "data", Tag: "t", State: "3"})
	rules := func(keep string) map[int]string {
		t.Helper()
		h.do(&volume.Set{Name: "data", Options: map[string]string{"keep": keep}})
		got := map[int]string{}
		retained := h.do(&volume.Retain{Name: "data", DryRun: true}).Retained
		for i, r := range retained {
			got[len(retained)-i] = strings.Join(r.Rules, " ")
		}
		return got
	}
	for keep, want := range map[string]map[int]string{
		"last:2":           {7: "head last", 6: "last", 5: "", 4: "", 3: "tag t", 2: "", 1: "base"},
		"daily:2,weekly:9": {7: "daily head weekly", 6: "daily weekly", 5: "weekly", 4: "weekly", 3: "tag t", 2: "", 1: "base"},
		"hourly:3":         {7: "head hourly", 6: "hourly", 5: "hourly", 4: "", 3: "tag t", 2: "", 1: "base"},
		"monthly:1":        {7: "head monthly", 6: "", 5: "", 4: "", 3: "tag t", 2: "", 1: "base"},
	} {
		if diff := cmp.Diff(want, rules(keep)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", keep, diff)
		}
	}
}

func TestACommitLetsGoOfWhatNoRuleKeeps(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"keep": "last:2"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	for i := range 5 {
		h.write(filepath.Join(dir, "a"), strings.Repeat("x", i+1))
		h.do(&volume.Commit{Name: "data"})
	}
	if n := h.count(); n != 3 { // two, and the base of the mount
		t.Errorf("%d commits are kept", n)
	}
	h.do(&volume.Unmount{Name: "data"})
	h.do(&volume.Retain{Name: "data"})
	if n := h.count(); n != 2 {
		t.Errorf("%d commits are kept after unmounting", n)
	}
}

func TestRulesThatCannotBeMeantAreRefused(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	for _, keep := range []string{"last", "last:0", "last:-1", "last:1,last:2", "yearly:1", "last:x", ","} {
		h.refused(&volume.Set{Name: "data", Options: map[string]string{"keep": keep}}, volume.ErrInvalid)
	}
}

func TestVolumesAreCommittedOnTheirInterval(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"commit": "1s"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if c := h.resolve("data"); c != h.resolve("data@1") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no commit was made")
		}
	}
	stop()
	<-ended
	h.wantFiles("data", files{"a": "1"})
}

func TestAClockSetBackDoesNotTakeTheNewestCommits(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"keep": "last:3"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	for i := range 8 {
		if i == 4 {
			h.now = h.now.Add(-24 * time.Hour)
		}
		h.write(filepath.Join(dir, "a"), strings.Repeat("x", i+1))
		h.do(&volume.Commit{Name: "data"})
	}
	var kept []uint64
	for _, r := range h.do(&volume.Retain{Name: "data", DryRun: true}).Retained {
		kept = append(kept, h.commitOf(r.Commit.Cid).Sequence)
	}
	if !cmp.Equal(kept, []uint64{9, 8, 7, 1}) { // the last three, and the base of the mount
		t.Errorf("kept are %v", kept)
	}
}
