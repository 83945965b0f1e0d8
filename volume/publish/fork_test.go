package publish_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
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
	var ours cid.Cid
	for _, file := range []string{"a2", "a3", "a4", "a5"} { // more commits than the others made
		ours = a.commit("data", file).Commit.Cid
		if !w.told(ours) {
			t.Errorf("others were not told of %s, a fork", ours)
		}
	}
	b.learn()
	key, err := namespace.ParseName(b.info("data").ID)
	w.must(err)
	for _, h := range []*host{a, b} {
		v, err := h.table.Volume(key)
		w.must(err)
		if v.Head.Commit != theirs || len(v.Forks) != 1 || v.Forks[0].Commit != ours || !v.Forks[0].IsFork() {
			t.Errorf("a host knows %s and %d forks, want %s and %s", v.Head.Commit, len(v.Forks), theirs, ours)
		}
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

func TestAHostWhoseBranchLostIsHeardOnItAndNeverMovesTheHead(t *testing.T) {
	w, a, b, theirs := forked(t)
	c := w.host()
	author := filepath.Base(a.dir)
	for _, file := range []string{"a1", "a2", "a3", "a4", "a5"} {
		ours := a.commit("data", file).Commit.Cid
		for _, h := range []*host{b, c} {
			h.learn()
			if got := h.names()["data"]; got != theirs {
				t.Fatalf("after %s a host is at %s, want %s", file, got, theirs)
			}
			if got, err := h.Resolve(t.Context(), "data@fork/"+author); err != nil || got != ours {
				t.Errorf("the branch is at %s, %v, want %s", got, err, ours)
			}
		}
	}
	if _, err := c.Resolve(t.Context(), "data@fork/"+filepath.Base(b.dir)); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("the head is a fork: %v", err)
	}
	if !c.has("data@fork/"+author, "a5") || c.has("data", "a5") {
		t.Error("the branch's files are not where they should be")
	}
	next := b.commit("data", "b4").Commit.Cid
	for _, h := range []*host{a, c} {
		h.learn()
	}
	if got := c.names()["data"]; got != next {
		t.Errorf("the head is %s, want %s", got, next)
	}
	c.do(&volume.Merge{Name: "data", Forks: []string{"data@fork/" + author}})
	merged := c.names()["data"]
	a.learn()
	late := a.commit("data", "a6").Commit.Cid // it is still on what it has mounted
	c.learn()
	if got := c.forks("data"); !slices.Equal(got, []cid.Cid{late}) || c.names()["data"] != merged {
		t.Errorf("forks %v of %s, want %s of %s", got, c.names()["data"], late, merged)
	}
	a.do(&volume.Unmount{Name: "data"})
	a.do(&volume.Mount{Name: "data"})
	if got := a.info("data"); got.Head.Cid != merged || !a.has("data", "b4") || !a.has("data", "a5") || a.has("data", "a6") {
		t.Errorf("mounted again it is at %s, want %s", got.Head, merged)
	}
}

func TestWhoStandsOnABranchThatLostLeavesIt(t *testing.T) {
	w, a, b, theirs := forked(t)
	ours := a.commit("data", "a1").Commit.Cid // made on a branch that lost: a knows of what b made
	c := w.host()
	var all []pinset.Pin
	for p, err := range w.pins.All(t.Context()) {
		w.must(err)
		all = append(all, p)
	}
	for _, p := range all { // what b made is not heard of
		if s, err := tree.Open(t.Context(), w.blocks, p.Root); err != nil || s.Commit.Author == filepath.Base(b.dir) {
			w.must(errors.Join(err, w.pins.Remove(t.Context(), p.Root, p.Owner)))
		}
	}
	c.learn()
	c.do(&volume.Mount{Name: "data"})
	if got := c.info("data").Head.Cid; got != ours {
		t.Fatalf("at %s, want %s, the only one that is known", got, ours)
	}
	onIt := c.commit("data", "c1").Commit.Cid
	c.do(&volume.Unmount{Name: "data"})
	if _, err := b.heads.TellAgain(t.Context(), false, func(p pinset.Pin) (bool, error) { return p.Root == theirs, nil }); err != nil {
		t.Fatal(err)
	}
	c.learn()
	if got := c.names()["data"]; got != theirs {
		t.Errorf("at %s, want %s, not %s", got, theirs, onIt)
	}
	if got := c.forks("data"); !slices.Equal(got, []cid.Cid{onIt}) {
		t.Errorf("forks %v, want %s", got, onIt)
	}
}

// meanwhile is blocks of which the next one is got only after something else was done.
type meanwhile struct {
	snapshot.Blocks
	do func()
}

func (m *meanwhile) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Blocks.Get(ctx, c)
}

func TestOthersAreToldOfAStateThatWasMadeWhileAForkOfItWasHeard(t *testing.T) {
	w, a, b := shared(t)
	a.close()
	m := &meanwhile{Blocks: w.blocks}
	a.seen = m
	a.open()
	a.do(&volume.Mount{Name: "data"})
	theirs := b.commit("data", "b1").Commit.Cid
	m.do = func() { a.learn() }
	ours := a.commit("data", "a1").Commit.Cid
	if !w.told(ours) {
		t.Errorf("others were not told of %s", ours)
	}
	b.learn()
	for _, h := range []*host{a, b} {
		forks := append(h.forks("data"), h.info("data").Head.Cid)
		if len(forks) != 2 || !slices.Contains(forks, ours) || !slices.Contains(forks, theirs) {
			t.Errorf("a host knows %v, want %s and %s", forks, ours, theirs)
		}
	}
}
