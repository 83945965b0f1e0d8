package table_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
)

func TestRemovedVolumeComesBackByALaterBindingAlone(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	ctx := t.Context()
	one, grave, late, back := w.commit("1"), w.commit("grave", "1"), w.commit("late", "1"), w.commit("back", "grave")
	later := w.commit("later", "late")
	key := w.key("data", 1)
	bound, removed, again := w.data(), w.bind("data", key, 2, 1), w.bind("data", key, 3, 2)
	check(t, tab.Advance(ctx, cid.Undef, one, &bound))
	check(t, tab.Advance(ctx, one.Commit, grave, &removed))
	w.want(tab, "data:grave removed unnamed unsent")
	// A host that did not hear of it went on.
	w.learn(tab, late, later)
	w.want(tab, "data:later fork grave removed unnamed unsent")
	wantErr(t, tab.Advance(ctx, later.Commit, w.commit("more", "later"), nil), table.ErrRemoved)
	wantErr(t, tab.Advance(ctx, later.Commit, w.commit("more", "later"), &bound), table.ErrConflict)
	if _, err := tab.Named("data"); !errors.Is(err, table.ErrUnknown) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the name of a removed volume: %v", err)
	}
	check(t, tab.Advance(ctx, later.Commit, w.commit("merged", "later", "grave"), &again))
	w.want(tab, "data:merged unsent")
	_ = back
}

func TestNameOfARenamedVolumeMakesANewOne(t *testing.T) {
	w := newWorld(t)
	tab, other := w.open(), w.open()
	ctx := t.Context()
	key, g, err := tab.NewKey(w.n, "data")
	check(t, err)
	bound := w.bind("data", key, g, 0)
	one := w.commitOf(key, "1")
	check(t, tab.Advance(ctx, cid.Undef, one, &bound))
	if g = must(tab.Generation("archive", bound.Volume))(t); g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
	renamed := w.bind("archive", key, g, 0)
	check(t, tab.Advance(ctx, one.Commit, one, &renamed))
	if _, err := tab.Named("data"); !errors.Is(err, table.ErrUnknown) {
		t.Errorf("the old name: %v", err)
	}
	if v := must(tab.Named("archive"))(t); v.Key != bound.Volume || !v.Named {
		t.Errorf("the new name is %s", w.show(v))
	}
	key2, g2, err := tab.NewKey(w.n, "data")
	check(t, err)
	if key2.Equals(key) || g2 != 2 {
		t.Errorf("generation %d, the same key: %v", g2, key2.Equals(key))
	}
	// A host that heard only of the new name does not take the key either.
	must(other.Learn(ctx, table.News{Bindings: []namespace.Binding{renamed}}))(t)
	key3, _, err := other.NewKey(w.n, "data")
	check(t, err)
	if !key3.Equals(key2) {
		t.Error("two hosts make different volumes of one name")
	}
}

func TestTwoVolumesOfOneNameAreTheSameToEveryHost(t *testing.T) {
	w := newWorld(t)
	a, b := w.bind("x", w.key("a", 1), 2, 0), w.bind("x", w.key("b", 1), 2, 0)
	want := a
	if namespace.Compare(a, b) < 0 {
		want = b
	}
	for _, order := range [][]namespace.Binding{{a, b}, {b, a}} {
		tab := w.open()
		for _, binding := range order {
			must(tab.Learn(t.Context(), table.News{Bindings: []namespace.Binding{binding}}))(t)
		}
		if v := must(tab.Named("x"))(t); v.Key != want.Volume {
			t.Errorf("x is %s, want %s", v.Key, want.Volume)
		}
		named := 0
		for _, v := range must(tab.Volumes())(t) {
			if v.Named {
				named++
			}
			if one := must(tab.Volume(v.Key))(t); one.Named != v.Named {
				t.Errorf("%s is named: %v and %v", v.Key, one.Named, v.Named)
			}
		}
		if named != 1 {
			t.Errorf("%d volumes have the name", named)
		}
	}
}
