package table_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
)

func TestWhatWasToldIsNotUnsentUnlessThereIsSomethingNewer(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	one, two := w.commit("1"), w.commit("2", "1")
	b := w.data()
	check(t, tab.Advance(t.Context(), cid.Undef, one, &b))
	told := must(tab.Unsent())(t)
	if len(told) != 1 || told[0].Head.Commit != one.Commit {
		t.Fatalf("unsent: %+v", told)
	}
	check(t, tab.Advance(t.Context(), one.Commit, two, nil))
	check(t, tab.Sent(told[0]))
	w.want(tab, "data:2 unsent")
	check(t, tab.Sent(must(tab.Unsent())(t)[0]))
	w.want(tab, "data:2")
	check(t, tab.Advance(t.Context(), one.Commit, two, nil)) // done already: nothing to tell
	w.want(tab, "data:2")
	renamed := w.bind("other", w.key("data", 1), 2, 0)
	check(t, tab.Advance(t.Context(), two.Commit, two, &renamed))
	w.want(tab, "other:2 unsent")
}

func (w *world) wantUntold(v table.Volume, want ...head.Head) {
	w.t.Helper()
	same := func(a, b head.Head) bool { return a.Commit == b.Commit }
	if !slices.EqualFunc(v.Untold, want, same) || v.Unsent != (len(want) > 0) {
		w.t.Errorf("%s: to be told are %d heads, want %d", w.show(v), len(v.Untold), len(want))
	}
}

func TestEachHeadThatThisHostMadeIsToBeToldAlsoAFork(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "heads.db")
	tab := must(table.Open(path, w.history))(t)
	defer func() { check(t, tab.Close()) }()
	now := func() table.Volume { return must(tab.Volume(w.data().Volume))(t) }
	base, b := w.commit("base"), w.data()
	check(t, tab.Advance(t.Context(), cid.Undef, base, &b))
	check(t, tab.Sent(now()))
	w.commit("theirs", "base")
	w.learn(tab, w.commit("theirs 2", "theirs"))
	w.wantUntold(now())

	own := w.commit("own", "base")
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{own}, Own: true}))(t)
	w.wantUntold(now(), own)
	check(t, tab.Close())
	tab = must(table.Open(path, w.history))(t)
	w.wantUntold(must(tab.Unsent())(t)[0], own)
	w.learn(tab, own) // heard of from others
	w.wantUntold(now(), own)
	before := now()
	own2 := w.commit("own 2", "own")
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{own2}, Own: true}))(t)
	w.wantUntold(now(), own2)
	check(t, tab.Sent(before))
	w.wantUntold(now(), own2)
	check(t, tab.Sent(now()))
	w.wantUntold(now())
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{own2}, Own: true}))(t) // said again
	w.wantUntold(now())

	top := now().Head
	own3 := w.commit("own 3", "theirs 2")
	check(t, tab.Advance(t.Context(), top.Commit, own3, nil))
	w.commit("theirs 3", "theirs 2")
	w.learn(tab, w.commit("theirs 4", "theirs 3"))
	w.wantUntold(now(), own3)
	renamed := w.bind("other", w.key("data", 1), 2, 0)
	check(t, tab.Advance(t.Context(), now().Head.Commit, now().Head, &renamed))
	w.wantUntold(now(), now().Head, own3)
	w.learn(tab, w.commit("merged", "theirs 4", "own 3", "own 2"))
	w.wantUntold(now(), w.heads["merged"]) // its name
}
