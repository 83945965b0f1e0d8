package publish_test

import (
	"os"
	"path/filepath"
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
