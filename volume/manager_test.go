package volume_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

type files = map[string]string

func (h *host) wantFiles(ref string, want files) {
	h.t.Helper()
	if diff := cmp.Diff(want, h.files(ref)); diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", ref, diff)
	}
}

func TestAVolumeGoesFromStateToState(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	first := h.do(&volume.Commit{Name: "data", Message: "one"})
	if !first.Created || first.Volume.Sequence != 2 {
		t.Errorf("the first commit: %+v", first)
	}
	if again := h.do(&volume.Commit{Name: "data"}); again.Created || again.Commit != first.Commit {
		t.Errorf("a commit of no change: %+v", again)
	}
	h.write(filepath.Join(dir, "b"), "2")
	h.do(&volume.Unmount{Name: "data"})
	h.wantFiles("data", files{"a": "1", "b": "2"})
	h.wantFiles("data@2", files{"a": "1"})
	h.wantFiles("data@~2", files{})
	if i, err := h.Inspect(t.Context(), "data"); err != nil || *i.Dirty || i.Mountpoint != "" || i.Base.Defined() {
		t.Errorf("after unmounting: %+v, %v", i, err)
	}

	h.do(&volume.Tag{Name: "data", Tag: "good", State: "2"})
	h.do(&volume.Rollback{Name: "data", To: "good"})
	h.wantFiles("data", files{"a": "1"})
	h.wantFiles("data@3", files{"a": "1", "b": "2"})
	h.do(&volume.Clone{Name: "data@3", To: "copy"})
	h.wantFiles("copy", files{"a": "1", "b": "2"})
	h.do(&volume.Rename{Name: "copy", To: "other"})
	h.refused(&volume.Mount{Name: "copy"}, volume.ErrNotFound)
	h.wantFiles("other@~1", files{"a": "1", "b": "2"})
}

func TestOptionsThatMeanNothingWithASnapshotAreRefused(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"uid": "7", "mode": "700"}})
	h.do(&volume.Clone{Name: "data", To: "copy"})
	for key, value := range map[string]string{"uid": "7", "gid": "7", "mode": "700", "follow": "true"} {
		given := map[string]string{key: value}
		h.refused(&volume.Create{Name: "new", From: "data", Options: given}, volume.ErrInvalid)
		h.refused(&volume.Clone{Name: "data", To: "new", Options: given}, volume.ErrInvalid)
	}
	h.do(&volume.Create{Name: "new", From: "data", Options: map[string]string{"follow": "false"}})
}

func TestChangesOutliveTheProcessUncommitted(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"commit": "manual"}})
	dir := h.do(&volume.Mount{Name: "data", User: "x"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.restart()
	i, err := h.Inspect(t.Context(), "data")
	h.must(err)
	if !*i.Dirty || i.Mountpoint != dir || !cmp.Equal(i.Users, []string{"x"}) {
		t.Errorf("after a restart: %+v", i)
	}
	h.do(&volume.Unmount{Name: "data", User: "x"})
	h.wantFiles("data", files{})
	h.restart()
	if got := h.do(&volume.Mount{Name: "data"}).Path; got != dir {
		t.Errorf("mounted again at %s, not %s", got, dir)
	}
	h.do(&volume.Commit{Name: "data"})
	h.wantFiles("data", files{"a": "1"})
}

func TestAVolumeIsMountedOnceForEachUser(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data", User: "x"}).Path
	for _, user := range []string{"x", "y", "x"} {
		if got := h.do(&volume.Mount{Name: "data", User: user}).Path; got != dir {
			t.Errorf("mounted at %s and %s", dir, got)
		}
	}
	h.write(filepath.Join(dir, "a"), "1")
	h.refused(&volume.Mount{Name: "data", User: "z", ReadOnly: true}, volume.ErrMounted)
	h.refused(&volume.Remove{Name: "data"}, volume.ErrMounted)
	h.refused(&volume.Rollback{Name: "data", To: "1"}, volume.ErrMounted)
	h.do(&volume.Unmount{Name: "data", User: "x"})
	h.do(&volume.Unmount{Name: "data", User: "x"})
	h.wantFiles("data", files{})
	h.do(&volume.Unmount{Name: "data", User: "y"})
	h.wantFiles("data", files{"a": "1"})
}

func TestAMountInUseStaysAsItIs(t *testing.T) {
	c := mounttest.NewCopies()
	h := newHost(t, c)
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	c.KeepBusy(volume.ErrInUse)
	h.refused(&volume.Unmount{Name: "data"}, volume.ErrInUse)
	h.refused(&volume.Remove{Name: "data", Force: true}, volume.ErrInUse)
	c.KeepBusy(nil)
	h.do(&volume.Unmount{Name: "data"})
	h.wantFiles("data", files{"a": "1"})
}

func TestWhatAVolumeIsAtIsNotCollected(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.do(&volume.Commit{Name: "data"})
	_, err := h.pins.Collect(t.Context(), local.CollectOptions{})
	h.must(err)
	h.wantFiles("data", files{"a": "1"})
	h.wantFiles("data@1", files{})
	h.do(&volume.Unmount{Name: "data"})
}

func TestBadRequestsChangeNothing(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	file := filepath.Join(t.TempDir(), "f")
	h.write(file, "x")
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a@b", "a b", "a\nb", "-x", "\xff", string(make([]byte, 300))} {
		h.refused(&volume.Create{Name: name}, volume.ErrInvalid)
		h.refused(&volume.Rename{Name: "data", To: name}, volume.ErrInvalid)
	}
	for _, o := range []map[string]string{
		{"colour": "red"}, {"commit": "soon"}, {"commit": "1ms"}, {"commit": "quiet:"}, {"commit": "quiet:1ms"}, {"mode": "999"}, {"uid": "-1"}, {"chunker": "size-"},
		{"exclude": ""}, {"exclude": "*.log,"}, {"exclude": "["}, {"readonly": "true", "commit": "manual"}, {"trash": "-1h"},
	} {
		h.refused(&volume.Create{Name: "new", Options: o}, volume.ErrInvalid)
	}
	h.refused(&volume.Create{Name: "data"}, volume.ErrExist)
	h.refused(&volume.Create{Name: "new", From: "none"}, volume.ErrNotFound)
	h.refused(&volume.Create{Name: "new", From: "data@9"}, volume.ErrNotFound)
	h.refused(&volume.Create{Name: "new", From: "data@soon"}, volume.ErrNotFound)
	h.refused(&volume.Rollback{Name: "data", To: "~7"}, volume.ErrNotFound)
	h.refused(&volume.Tag{Name: "data", Tag: "7"}, volume.ErrInvalid)
	h.refused(&volume.Tag{Name: "data", Tag: "x", Delete: true}, volume.ErrNotFound)
	all, err := h.List(t.Context(), volume.ListOptions{Trash: true})
	h.must(err)
	if len(all) != 1 || all[0].Sequence != 1 {
		t.Errorf("afterwards: %+v", all)
	}
}

// TestAfterAFaultAtAnyStepNothingIsLost stops a life of a volume at each step, begins another process, and
// wants everything that was written.
func TestAfterAFaultAtAnyStepNothingIsLost(t *testing.T) {
	fault := errors.New("fault")
	labels := map[string]int{}
	life(t, func(label string) error { labels[label]++; return nil })
	all := []string{volume.StepOverlay, volume.StepMount, volume.StepUsers, volume.StepImport, volume.StepStore, volume.StepPin,
		volume.StepHead, volume.StepUnmount, volume.StepRetire, volume.StepDelete}
	if len(labels) != len(all) {
		t.Fatalf("steps taken: %v", labels)
	}
	for _, label := range all {
		for n := 1; n <= labels[label]; n++ {
			count := 0
			life(t, func(l string) error {
				if l != label {
					return nil
				}
				if count++; count == n {
					return fault
				}
				return nil
			})
		}
	}
}

// life works in a volume, however often that takes, and checks that what was written is in it.
func life(t *testing.T, step func(string) error) {
	h := newHost(t, mounttest.NewCopies())
	h.step = step
	again := func(op volume.Operation) volume.Result {
		t.Helper()
		res, err := h.Do(t.Context(), op)
		if err != nil {
			h.restart()
			if res, err = h.Do(t.Context(), op); errors.Is(err, volume.ErrExist) {
				return res
			}
		}
		h.must(err)
		if err := h.Sweep(t.Context()); err != nil {
			h.restart()
		}
		return res
	}
	again(&volume.Create{Name: "data"})
	dir := again(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	again(&volume.Commit{Name: "data"})
	h.write(filepath.Join(dir, "b"), "2")
	again(&volume.Unmount{Name: "data"})
	h.step = nil
	h.restart()
	h.must(h.Sweep(t.Context()))
	if h.wantFiles("data", files{"a": "1", "b": "2"}); t.Failed() {
		t.Fatalf("after %q", dir)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, "volumes", "overlays")); err != nil || len(left) > 0 {
		t.Errorf("overlays left: %v, %v", left, err)
	}
}

func TestAfterAnotherBootFilesAreReadAgain(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.boot = "first"
	h.restart()
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	commit := func(content string, remembered bool) {
		t.Helper()
		h.write(filepath.Join(dir, "a"), content)
		h.do(&volume.Commit{Name: "data"})
		if h.mounter.(*mounttest.Copies).Remembered() != remembered {
			t.Errorf("commit of %q: files remembered: %v", content, !remembered)
		}
	}
	commit("1", false)
	commit("2", true)
	h.boot = "second"
	h.restart()
	commit("3", false)
	commit("4", true)
}

func TestHooksRunAroundTheReadingOfFiles(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"exec-before": "echo before >>$VOLARY_MOUNTPOINT/log"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	out := filepath.Join(t.TempDir(), "out")
	res := h.do(&volume.Commit{Name: "data", Hooks: volume.Hooks{After: "echo $VOLARY_VOLUME after >" + out}})
	h.wantFiles("data", files{"log": "before\n"})
	if c := h.commitOf(res.Commit.Cid); c.Consistency != snapshot.Hook {
		t.Errorf("the commit says it is %q", c.Consistency)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "data after\n" {
		t.Errorf("the hook after it wrote %q, %v", b, err)
	}

	h.write(filepath.Join(dir, "log"), "more")
	for _, hooks := range []volume.Hooks{
		{Before: "echo no; exit 3"},
		{Before: "sleep 100 & wait", Timeout: 50 * time.Millisecond, After: "echo again >" + out},
	} {
		_, err := h.Do(t.Context(), &volume.Commit{Name: "data", Hooks: hooks})
		if err == nil || h.resolve("data") != res.Commit.Cid {
			t.Errorf("%+v: error %v, and the head is at %s", hooks, err, h.resolve("data"))
		}
	}
	warned := h.do(&volume.Commit{Name: "data", Hooks: volume.Hooks{After: "echo again >" + out + "; echo bad; exit 3"}})
	if !warned.Created || !strings.Contains(warned.Warning, "bad") {
		t.Errorf("a commit whose hook after it failed: %+v", warned)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "again\n" {
		t.Errorf("the hook after a failure wrote %q, %v", b, err)
	}
	h.do(&volume.Unmount{Name: "data"}) // nobody writes any more: no hooks
	h.wantFiles("data", files{"log": "morebefore\n"})
}

func (h *host) commitOf(c cid.Cid) *snapshot.Commit {
	h.t.Helper()
	s, err := tree.Open(h.t.Context(), h.store, c)
	h.must(err)
	return s.Commit
}

func TestAHeadThatWasUnpinnedIsPinnedAtTheStart(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	i, err := h.Inspect(t.Context(), "data")
	h.must(err)
	h.must(h.pins.Remove(t.Context(), i.Head.Cid, volume.PinOwner+i.ID))
	h.restart()
	if h.count() != 1 {
		t.Error("the head is not pinned")
	}
}

func TestWhatBeganElsewhereStaysForeign(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "own"})
	own := h.resolve("own")
	foreign := h.imported(map[string]string{"a": "1"})
	h.do(&volume.Create{Name: "data", From: foreign.String()})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "b"), "2")
	h.do(&volume.Unmount{Name: "data"})
	h.do(&volume.Clone{Name: "data", To: "copy"})
	h.do(&volume.Rollback{Name: "own", To: "data@1"})
	for ref, want := range map[string]bool{"data": false, "copy": false, "own": false, own.String(): true} {
		if got, err := h.pins.Own(t.Context(), h.resolve(ref)); err != nil || got != want {
			t.Errorf("%s is this host's own: %v, %v", ref, got, err)
		}
	}
}

// imported is a snapshot that nobody has said to be this host's.
func (h *host) imported(files map[string]string) cid.Cid {
	h.t.Helper()
	dir := h.t.TempDir()
	for name, content := range files {
		h.write(filepath.Join(dir, name), content)
	}
	r, err := importer.Import(h.t.Context(), h.store, dir, importer.Options{})
	h.must(err)
	r.Commit.Sequence, r.Commit.Time = 1, h.now
	blk, err := snapshot.EncodeCommit(r.Commit)
	h.must(err)
	h.must(h.store.Put(h.t.Context(), blk))
	return blk.Cid()
}

func TestATagKeepsItsStateWhateverTheRulesSay(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: map[string]string{"keep": "last:1"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	for _, content := range []string{"1", "2", "3"} {
		h.write(filepath.Join(dir, "a"), content)
		h.do(&volume.Commit{Name: "data"})
	}
	h.do(&volume.Unmount{Name: "data"})
	h.do(&volume.Retain{Name: "data"})
	h.do(&volume.Tag{Name: "data", Tag: "old", State: "2"}) // not kept, but still there
	h.do(&volume.Clone{Name: "data@old", To: "copy"})
	h.do(&volume.Tag{Name: "copy", Tag: "shared", State: "2"})
	_, err := h.pins.Collect(t.Context(), local.CollectOptions{})
	h.must(err)
	h.wantFiles("data@old", files{"a": "1"})
	h.refused(&volume.Tag{Name: "data", Tag: "gone", State: "3"}, snapshot.ErrNotFound)

	h.do(&volume.Tag{Name: "data", Tag: "old", Delete: true})
	h.do(&volume.Retain{Name: "data"})
	_, err = h.pins.Collect(t.Context(), local.CollectOptions{})
	h.must(err)
	h.wantFiles("copy@shared", files{"a": "1"}) // another volume has a tag of it
}

func TestMemoryThatIsGoneDoesNotUndoACommit(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.boot = "first"
	h.restart()
	h.do(&volume.Create{Name: "data", Options: map[string]string{"overlay": "tmpfs"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.do(&volume.Commit{Name: "data"})
	h.must(os.RemoveAll(dir))
	h.boot = "second"
	h.restart()
	h.do(&volume.Commit{Name: "data"})
	h.wantFiles("data", files{"a": "1"})
	h.do(&volume.Remove{Name: "data", Force: true})
	h.do(&volume.Undelete{Name: "data"})
	h.wantFiles("data", files{"a": "1"})
}
