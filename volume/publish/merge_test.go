package publish_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/merge"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

// apart are hosts that changed a volume of some files without hearing of each other, and heard of it since. Nobody has
// it mounted. changes are the files that each of them wrote; empty: removed.
func apart(t *testing.T, changes ...map[string]string) (*world, []*host) {
	t.Helper()
	w := newWorld(t)
	var hosts []*host
	for i := range changes {
		hosts = append(hosts, w.host())
		if i == 0 {
			hosts[0].do(&volume.Create{Name: "data"})
			hosts[0].edit("data", map[string]string{"a": "base", "b": "base", "c": "base"})
			continue
		}
		hosts[i].learn()
	}
	for i, h := range hosts {
		h.edit("data", changes[i])
	}
	for _, h := range hosts {
		h.learn()
	}
	return w, hosts
}

// edit writes files of a volume, and commits it.
func (h *host) edit(name string, files map[string]string) cid.Cid {
	h.t.Helper()
	dir := h.do(&volume.Mount{Name: name}).Path
	for file, content := range files {
		if content == "" {
			h.must(os.Remove(filepath.Join(dir, file)))
			continue
		}
		h.must(os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
	}
	return h.do(&volume.Unmount{Name: name}).Commit.Cid
}

// files are those of a state.
func (w *world) files(c cid.Cid) map[string]string {
	w.t.Helper()
	s, err := tree.Open(w.t.Context(), w.blocks, c)
	w.must(err)
	got := map[string]string{}
	for e, err := range s.Walk(w.t.Context(), "", tree.Limits{}) {
		w.must(err)
		if e.IsDir() {
			continue
		}
		for chunk, err := range s.Chunks(w.t.Context(), e.Entry) {
			w.must(err)
			b, err := w.blocks.Get(w.t.Context(), chunk.CID)
			w.must(err)
			got[e.Path] += string(b.RawData())
		}
	}
	return got
}

func (w *world) wantFiles(c cid.Cid, want map[string]string) {
	w.t.Helper()
	if d := cmp.Diff(want, w.files(c)); d != "" {
		w.t.Errorf("files of %s (-want +got):\n%s", c, d)
	}
}

func TestMergingForksMakesOneHeadOfAllChangesOnEveryHost(t *testing.T) {
	w, hosts := apart(t, map[string]string{"a": "one"}, map[string]string{"b": "two", "new": "two"}, map[string]string{"c": ""})
	if n := len(hosts[0].forks("data")); n != 2 {
		t.Fatalf("%d forks, want 2", n)
	}
	before := hosts[1].names()["data"]
	res := hosts[1].do(&volume.Merge{Name: "data"})
	if !res.Created || len(res.Merged.Conflicts) > 0 || len(res.Merged.Forks) != 2 || res.Merged.Head.Cid != before {
		t.Fatalf("merged: %+v", res.Merged)
	}
	for i, h := range hosts {
		h.learn()
		if got := h.names()["data"]; got != res.Commit.Cid {
			t.Errorf("host %d is at %s, want %s", i, got, res.Commit)
		}
		if got := h.forks("data"); len(got) > 0 {
			t.Errorf("host %d still has forks %v", i, got)
		}
	}
	w.wantFiles(res.Commit.Cid, map[string]string{"a": "one", "b": "two", "new": "two"})
	s, err := tree.Open(t.Context(), w.blocks, res.Commit.Cid)
	w.must(err)
	if len(s.Commit.Parents) != 3 || s.Commit.Parents[0] != before || !strings.Contains(s.Commit.Message, s.Commit.Parents[2].String()) {
		t.Errorf("parents %v, message %q", s.Commit.Parents, s.Commit.Message)
	}
	again := hosts[0].do(&volume.Merge{Name: "data"})
	if again.Created || again.Merged != nil || again.Note != "data has no forks" || again.Commit != res.Commit {
		t.Errorf("merged once more: %+v", again)
	}
}

func TestMergeOfConflictsNeedsAWordOfWhatToTake(t *testing.T) {
	_, hosts := apart(t, map[string]string{"a": "one", "b": "one"}, map[string]string{"a": "two", "c": "two"})
	h := hosts[0]
	head, fork := h.names()["data"], h.forks("data")[0]
	for _, op := range []*volume.Merge{{Name: "data"}, {Name: "data", Take: merge.Theirs, DryRun: true}} {
		res := h.do(op)
		want := []volume.Conflict{{Fork: volume.CID{Cid: fork}, Conflict: merge.Conflict{Path: "a", Ours: diff.Content, Theirs: diff.Content}}}
		if d := cmp.Diff(want, res.Merged.Conflicts, cmp.Comparer(func(a, b volume.CID) bool { return a == b })); d != "" {
			t.Errorf("conflicts (-want +got):\n%s", d)
		}
		if res.Created || h.names()["data"] != head || len(h.forks("data")) != 1 {
			t.Errorf("something was changed: %+v", res)
		}
	}
}

func TestConflictsAreMergedAsAskedFor(t *testing.T) {
	for _, take := range []merge.Take{merge.Ours, merge.Theirs, merge.Both} {
		w, hosts := apart(t, map[string]string{"a": "one", "b": "one"}, map[string]string{"a": "two", "c": "two"})
		h := hosts[1]
		fork := h.forks("data")[0]
		ours, theirs := w.files(h.names()["data"])["a"], w.files(fork)["a"]
		want := map[string]string{"a": ours, "b": "one", "c": "two"}
		switch take {
		case merge.Theirs:
			want["a"] = theirs
		case merge.Both:
			want["a.fork-"+fork.String()[len(fork.String())-8:]] = theirs
		}
		op := &volume.Merge{Name: "data", Forks: []string{fork.String()}, Take: take, Message: "both", Labels: map[string]string{"k": "v"}}
		res := h.do(op)
		w.wantFiles(res.Commit.Cid, want)
		s, err := tree.Open(t.Context(), w.blocks, res.Commit.Cid)
		w.must(err)
		if len(res.Merged.Conflicts) != 1 || s.Commit.Message != "both" || s.Commit.Labels["k"] != "v" {
			t.Errorf("%s: message %q, labels %v, %+v", take, s.Commit.Message, s.Commit.Labels, res.Merged)
		}
	}
}

func TestTheSameForksGiveTheSameFilesOnEveryHost(t *testing.T) {
	w, hosts := apart(t, map[string]string{"a": "one", "b": "one"}, map[string]string{"a": "two", "c": "two"}, map[string]string{"a": "three"})
	var trees []cid.Cid
	for _, h := range hosts { // none hears of the others' merges
		c := h.do(&volume.Merge{Name: "data", Take: merge.Both}).Commit.Cid
		s, err := tree.Open(t.Context(), w.blocks, c)
		w.must(err)
		trees = append(trees, s.Commit.Tree, s.Commit.Meta)
	}
	if !slices.Equal(trees[:2], trees[2:4]) || !slices.Equal(trees[:2], trees[4:]) {
		t.Errorf("trees and sidecars %v", trees)
	}
	for _, h := range hosts {
		h.learn()
	}
	res := hosts[0].do(&volume.Merge{Name: "data"}) // the merges are forks of each other
	if len(res.Merged.Conflicts) > 0 || res.Merged.Changed != 0 || len(hosts[0].forks("data")) > 0 {
		t.Errorf("merged merges: %+v", res.Merged)
	}
}

func TestWhatIsMountedIsNotMergedAndWhatIsNotCommittedIsCommittedFirst(t *testing.T) {
	w, hosts := apart(t, map[string]string{"a": "one"}, map[string]string{"b": "two"})
	h := hosts[0]
	h.do(&volume.Set{Name: "data", Options: map[string]string{"commit": "manual"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	w.must(os.WriteFile(filepath.Join(dir, "c"), []byte("not committed"), 0o644))
	if _, err := h.Do(t.Context(), &volume.Merge{Name: "data"}); !errors.Is(err, volume.ErrMounted) {
		t.Errorf("merged while mounted: %v", err)
	}
	if res := h.do(&volume.Merge{Name: "data", DryRun: true}); res.Merged == nil || res.Created {
		t.Errorf("a dry run while mounted: %+v", res)
	}
	h.do(&volume.Unmount{Name: "data"})
	res := h.do(&volume.Merge{Name: "data"})
	w.wantFiles(res.Commit.Cid, map[string]string{"a": "one", "b": "two", "c": "not committed"})
	if !strings.Contains(res.Note, "what was not committed is ") {
		t.Errorf("note %q", res.Note)
	}
	hosts[1].learn()
	if !hosts[1].has("data", "a") || !hosts[1].has("data", "c") {
		t.Error("the other host does not mount what was merged")
	}
}

func TestOnlyForksAreMerged(t *testing.T) {
	w, hosts := apart(t, map[string]string{"a": "one"}, map[string]string{"b": "two"})
	other := hosts[0].do(&volume.Create{Name: "other"}).Commit.Cid
	for _, ref := range []string{other.String(), "other@1", "x"} {
		if _, err := hosts[0].Do(t.Context(), &volume.Merge{Name: "data", Forks: []string{ref}}); err == nil {
			t.Errorf("%s was merged", ref)
		}
	}
	s, err := tree.Open(t.Context(), w.blocks, hosts[0].names()["data"])
	w.must(err)
	if res := hosts[0].do(&volume.Merge{Name: "data", Forks: []string{s.Commit.Parents[0].String()}}); res.Created || len(hosts[0].forks("data")) != 1 {
		t.Errorf("a state that was merged long ago: %+v", res)
	}
}

func TestRetentionKeepsWhatForksAndTheHeadComeFrom(t *testing.T) {
	w, hosts := apart(t, map[string]string{"a": "one"}, map[string]string{"b": "two"})
	h := hosts[0]
	base := h.info("data").Forks[0].Base.Cid
	if !base.Defined() {
		t.Fatal("it is not said what they come from")
	}
	h.do(&volume.Set{Name: "data", Options: map[string]string{"keep": "last:1"}})
	h.edit("data", map[string]string{"d": "more"})
	kept := slices.ContainsFunc(h.do(&volume.Retain{Name: "data"}).Retained, func(k volume.Retained) bool {
		return k.Commit.Cid == base && slices.Contains(k.Rules, "base of a fork")
	})
	if !kept {
		t.Error("it is not kept")
	}
	res := h.do(&volume.Merge{Name: "data"})
	w.wantFiles(res.Commit.Cid, map[string]string{"a": "one", "b": "two", "c": "base", "d": "more"})
}

func TestAMergeThatStopsAnywhereIsDoneOrNotAndLosesNothing(t *testing.T) {
	for _, label := range []string{volume.StepStore, volume.StepPin, volume.StepHead} {
		t.Run(label, func(t *testing.T) {
			w, hosts := apart(t, map[string]string{"a": "one"}, map[string]string{"b": "two"})
			h := hosts[0]
			head, stopped := h.names()["data"], errors.New("stopped")
			h.step = func(at string) error {
				if at == label {
					return stopped
				}
				return nil
			}
			h.restart()
			if _, err := h.Do(t.Context(), &volume.Merge{Name: "data"}); !errors.Is(err, stopped) {
				t.Fatalf("the merge did not come there: %v", err)
			}
			h.step = nil
			h.restart()
			if got := h.names()["data"]; got != head || len(h.forks("data")) != 1 {
				t.Errorf("at %s with forks %v, want %s and one", got, h.forks("data"), head)
			}
			res := h.do(&volume.Merge{Name: "data"})
			w.wantFiles(res.Commit.Cid, map[string]string{"a": "one", "b": "two", "c": "base"})
			hosts[1].learn()
			if got := hosts[1].names()["data"]; got != res.Commit.Cid || len(hosts[1].forks("data")) > 0 {
				t.Errorf("the other host is at %s with forks %v, want %s", got, hosts[1].forks("data"), res.Commit)
			}
		})
	}
}
