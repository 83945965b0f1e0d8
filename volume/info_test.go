package volume_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// stamped is a Mounter that knows when something was changed, and counts how often all is read.
type stamped struct {
	*mounttest.Copies
	reads atomic.Int64
}

func (m *stamped) LastChange(_ context.Context, dir string) (newest time.Time, _ error) {
	return newest, filepath.WalkDir(m.Path(dir), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if t := time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix()); t.After(newest) {
			newest = t
		}
		return nil
	})
}

func (m *stamped) Snapshot(ctx context.Context, s volume.Session, base *tree.Snapshot, dir string, o importer.Options) (*snapshot.Commit, []string, error) {
	m.reads.Add(1)
	return m.Copies.Snapshot(ctx, s, base, dir, o)
}

func (h *host) listed(name string) volume.Info {
	h.t.Helper()
	all, err := h.List(h.t.Context(), volume.ListOptions{Dirty: true})
	h.must(err)
	for _, i := range all {
		if i.Name == name {
			return i
		}
	}
	h.t.Fatalf("%s is not listed", name)
	return volume.Info{}
}

func TestAListSaysWhatIsDirtyWithoutReadingIt(t *testing.T) {
	m := &stamped{Copies: mounttest.NewCopies()}
	h := newHost(t, m)
	h.do(&volume.Create{Name: "data", Options: map[string]string{"commit": "manual"}})
	want := func(when string, dirty bool) {
		t.Helper()
		if i := h.listed("data"); i.Dirty == nil || *i.Dirty != dirty {
			t.Errorf("%s: dirty is %v", when, i.Dirty)
		}
	}
	want("never mounted", false)
	dir := h.do(&volume.Mount{Name: "data"}).Path
	want("fresh", false)
	later(t, filepath.Join(dir, "a"))
	before := m.reads.Load()
	want("changed", true)
	h.do(&volume.Unmount{Name: "data"})
	want("unmounted with changes", true)
	if n := m.reads.Load() - before; n > 0 {
		t.Errorf("all was read %d times", n)
	}
	h.do(&volume.Mount{Name: "data"})
	h.do(&volume.Commit{Name: "data"})
	want("committed", false)
	h.restart()
	want("after a restart", false)
	h.write(filepath.Join(dir, "a"), "another")
	h.restart()
	want("after a restart with changes", true)
	before = m.reads.Load()
	later(t, filepath.Join(dir, "b"))
	want("changed further", true)
	if n := m.reads.Load() - before; n > 0 {
		t.Errorf("all was read %d times", n)
	}
	h.do(&volume.Commit{Name: "data"})
	want("committed again", false)
	if i := h.listed("data"); i.Files != 2 || i.Bytes != uint64(len("another")+len("x")) || i.Time.IsZero() {
		t.Errorf("the head has %d files of %d bytes, of %s", i.Files, i.Bytes, i.Time)
	}
}

// later writes a file whose stamp is past all doubt.
func later(t *testing.T, path string) {
	t.Helper()
	var st syscall.Stat_t
	for start := time.Now(); time.Unix(st.Ctim.Unix()).Sub(start) < 200*time.Millisecond; {
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), syscall.Stat(path, &st)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAutomaticCommitThatFailedIsToldUntilOneGoesWell(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"commit": "1s"}})
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
	var fails atomic.Bool
	fails.Store(true)
	h.step = func(label string) error {
		if label == volume.StepStore && fails.Load() {
			return errors.New("the disk is on fire")
		}
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	await := func(what string, is func(volume.Info, volume.Counts) bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			i, err := h.Inspect(t.Context(), "data")
			h.must(err)
			n, err := h.Count(t.Context())
			h.must(err)
			if is(*i, n) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v, %+v", what, i.Failure, n)
			}
		}
	}
	await("failed", func(i volume.Info, n volume.Counts) bool {
		return i.Failure != nil && i.Failure.What == volume.FailedCommit && i.Failure.Error == "commit data: the disk is on fire" &&
			n.Volumes == 1 && n.Mounted == 1 && n.Failing == 1 && n.FailedCommits > 0
	})
	fails.Store(false)
	await("went well", func(i volume.Info, n volume.Counts) bool {
		return i.Failure == nil && n.Failing == 0 && n.FailedCommits > 0
	})
	stop()
	<-ended
	h.wantFiles("data", files{"a": "1"})
}
