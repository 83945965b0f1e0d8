package publish_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/volume"
)

// commit writes a file in a volume that is mounted, and commits it.
func (h *host) commit(name, file string) volume.Result {
	h.t.Helper()
	dir := h.do(&volume.Mount{Name: name}).Path
	h.must(os.WriteFile(filepath.Join(dir, file), []byte(file), 0o644))
	return h.do(&volume.Commit{Name: name})
}

// told reports whether the pins that all hosts see have one of a head.
func (w *world) told(c cid.Cid) bool {
	w.t.Helper()
	for p, err := range w.pins.All(w.t.Context()) {
		w.must(err)
		if p.Root == c && p.Meta[directory.KeyHead] != "" {
			return true
		}
	}
	return false
}

// forked are two hosts that have a volume mounted, and committed to it without hearing of each other: b more often.
func forked(t *testing.T) (w *world, a, b *host, theirs cid.Cid) {
	w, a, b = shared(t)
	a.do(&volume.Mount{Name: "data"})
	for _, file := range []string{"b1", "b2", "b3"} {
		theirs = b.commit("data", file).Commit.Cid
	}
	a.learn()
	return w, a, b, theirs
}

func TestOthersAreToldOfEachStateAlsoOfAFork(t *testing.T) {
	w, a, b, theirs := forked(t)
	a.deaf = true
	a.commit("data", "a1")
	a.restart()
	a.deaf = false
	ours := a.commit("data", "a2").Commit.Cid
	if !w.told(ours) {
		t.Fatal("others were not told of a state that is a fork")
	}
	for range 3 { // it becomes the head, and after it the next one is none
		ours = a.commit("data", ours.String()).Commit.Cid
		if !w.told(ours) {
			t.Errorf("others were not told of %s", ours)
		}
	}
	b.learn()
	key, err := namespace.ParseName(b.info("data").ID)
	w.must(err)
	v, err := b.table.Volume(key)
	w.must(err)
	if v.Head.Commit != ours || len(v.Forks) != 1 || v.Forks[0].Commit != theirs {
		t.Errorf("the other host knows %s and %d forks, want %s and one", v.Head.Commit, len(v.Forks), ours)
	}
}

func TestWhatWasToldIsNotToldAgainAfterARestart(t *testing.T) {
	w, a, _, _ := forked(t)
	ours := a.commit("data", "a1").Commit.Cid
	var pin pinset.Pin
	for p, err := range w.pins.All(t.Context()) {
		w.must(err)
		if p.Root == ours {
			pin = p
		}
	}
	w.must(w.pins.Remove(t.Context(), ours, pin.Owner))
	a.restart()
	if w.told(ours) {
		t.Error("a fork is told again at each start")
	}
}

func TestOnlyWhatComesAfterAStateTakesItsPlace(t *testing.T) {
	_, a, _, theirs := forked(t)
	id := a.info("data").ID
	ours := a.commit("data", "a1").Commit.Cid
	if newer, err := a.heads.Newer(t.Context(), id, ours); err != nil || newer.Defined() {
		t.Errorf("%s is taken for newer than a fork of it, %v", newer, err)
	}
	next := a.commit("data", "a2").Commit.Cid
	if newer, err := a.heads.Newer(t.Context(), id, ours); err != nil || newer != next {
		t.Errorf("%s, %v, want %s", newer, err, next)
	}
	if !a.heads.After(t.Context(), next, ours) || a.heads.After(t.Context(), theirs, ours) || a.heads.After(t.Context(), ours, next) {
		t.Error("what comes after what is wrong")
	}
}

func (h *host) forks(name string) (all []cid.Cid) {
	h.t.Helper()
	for _, f := range h.info(name).Forks {
		if f.Author == "" || f.Sequence == 0 || f.Time.IsZero() {
			h.t.Errorf("not said whose fork it is: %+v", f)
		}
		all = append(all, f.Head.Cid)
	}
	return all
}

func TestAForkIsSaidAndAllHostsHaveTheSameHeadWhereNobodyHasItMounted(t *testing.T) {
	_, a, b, theirs := forked(t)
	res := a.commit("data", "a1")
	ours := res.Commit.Cid
	if want := "another host has state " + theirs.String(); !strings.Contains(res.Note, want) {
		t.Errorf("note %q, want %q", res.Note, want)
	}
	if got := a.forks("data"); !slices.Equal(got, []cid.Cid{theirs}) {
		t.Errorf("forks %v, want %s", got, theirs)
	}
	b.learn()
	if got := b.forks("data"); !slices.Equal(got, []cid.Cid{ours}) {
		t.Errorf("forks on the other host %v, want %s", got, ours)
	}
	a.do(&volume.Unmount{Name: "data"})
	b.do(&volume.Unmount{Name: "data"})
	for _, h := range []*host{a, b} {
		if got := h.names()["data"]; got != theirs {
			t.Errorf("listed at %s, want %s", got, theirs)
		}
		if got := h.forks("data"); !slices.Equal(got, []cid.Cid{ours}) {
			t.Errorf("forks %v, want %s", got, ours)
		}
	}
	res = a.do(&volume.Mount{Name: "data"})
	if !strings.Contains(res.Note, ours.String()) || !a.has("data", "b3") || a.has("data", "a1") {
		t.Errorf("mounted with note %q", res.Note)
	}
	b.restart()
	b.do(&volume.Mount{Name: "data"})
	next := b.commit("data", "b4").Commit.Cid
	a.learn()
	if got := a.info("data"); len(got.Forks) != 1 || got.Forks[0].Head.Cid != ours || !b.has("data", "b3") {
		t.Errorf("after %s: forks %v", next, got.Forks)
	}
}

func TestRetentionKeepsForks(t *testing.T) {
	_, a, _, _ := forked(t)
	ours := a.commit("data", "a1").Commit.Cid
	a.do(&volume.Unmount{Name: "data"})
	a.do(&volume.Set{Name: "data", Options: map[string]string{"keep": "last:1"}})
	for _, file := range []string{"a2", "a3"} {
		a.change("data", file, file)
	}
	st, err := a.keeps.Status(t.Context(), ours)
	a.must(err)
	if _, kept := st.Of(volume.PinOwner + a.info("data").ID); !kept {
		t.Error("a fork is not kept any more")
	}
}

func TestWhatIsCommittedInAVolumeThatOthersRemovedIsToldAndComesBack(t *testing.T) {
	for _, byRemover := range []bool{false, true} {
		w, a, b := shared(t)
		b.do(&volume.Mount{Name: "data"})
		a.do(&volume.Remove{Name: "data"})
		b.learn()
		for _, file := range []string{"x", "y"} {
			res := b.commit("data", file)
			if !w.told(res.Commit.Cid) {
				t.Errorf("others were not told of %s", res.Commit)
			}
			if !strings.Contains(res.Note, "undelete data") {
				t.Errorf("note %q", res.Note)
			}
		}
		a.learn()
		a.wantNames()
		b.do(&volume.Unmount{Name: "data"})
		b.wantNames()
		back, other := b, a
		if byRemover {
			back, other = a, b
		}
		back.do(&volume.Undelete{Name: "data"})
		other.learn()
		for _, h := range []*host{a, b} {
			h.wantNames("data")
			for _, file := range []string{"f", "g", "x", "y"} {
				if !h.has("data", file) {
					t.Errorf("%s is not in it (brought back by the remover: %v)", file, byRemover)
				}
			}
			if forks := h.forks("data"); len(forks) > 0 {
				t.Errorf("forks %v", forks)
			}
		}
	}
}

func TestOfTwoVolumesMadeAtOnceUnderOneNameAllHostsTakeTheSame(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	first := a.do(&volume.Create{Name: "data"}).Commit.Cid
	second := b.do(&volume.Create{Name: "data"}).Commit.Cid
	a.learn()
	b.learn()
	if got := a.names()["data"]; first == second || got != b.names()["data"] || got != first && got != second {
		t.Errorf("at %s here, at %s on the other host", got, b.names()["data"])
	}
	a.change("data", "a", "one")
	b.learn()
	b.change("data", "b", "two")
	a.learn()
	if !a.has("data", "a") || !a.has("data", "b") {
		t.Error("what the hosts did after each other is not in one volume")
	}
}
