package table_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
)

// next is the next change, which is there or comes within a moment.
func next(t *testing.T, w *table.Watcher) table.Change {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	return must(w.Next(ctx))(t)
}

func nothingMore(t *testing.T, w *table.Watcher) {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	done()
	if c, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("there is more: %+v, %v", c, err)
	}
}

func TestWhoWatchesIsToldOfEachNewHeadAndBindingOnce(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	watcher, late := tab.Watch(), tab.Watch()
	defer watcher.Close()
	one, two, fork := w.commit("1"), w.commit("2", "1"), w.commit("2'", "1")
	b := w.bind("data", w.key("data", 1), 1, 0)
	check(t, tab.Advance(t.Context(), cid.Undef, one, &b))
	for _, want := range []int{1, 0} {
		if c := next(t, watcher); c.Volume != one.Volume || len(c.Heads) != want || want == 1 && c.Heads[0].Commit != one.Commit || !c.Own {
			t.Errorf("of the first head: %+v", c)
		}
	}
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{two, fork, one}, Bindings: []namespace.Binding{b}}))(t)
	if c := next(t, watcher); len(c.Heads) != 2 || c.Own {
		t.Errorf("of a head and a fork: %+v", c)
	}
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{two, fork, one}}))(t)
	now := must(tab.Volume(one.Volume))(t).Head
	check(t, tab.Advance(t.Context(), now.Commit, now, nil))
	nothingMore(t, watcher)
	late.Close()
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{w.commit("3", "2")}}))(t)
	next(t, watcher)
	for range 3 {
		next(t, late)
	}
	nothingMore(t, late)
}

func TestWhoIsTooSlowIsToldToLookAtAll(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	watcher := tab.Watch()
	defer watcher.Close()
	var n table.News
	for i := range 5000 {
		name := fmt.Sprint("v", i)
		n.Bindings = append(n.Bindings, w.bind(name, w.key(name, 1), 1, 0))
	}
	must(tab.Learn(t.Context(), n))(t)
	if c := next(t, watcher); !c.Missed {
		t.Error("some are told, and not that there are more")
	}
	nothingMore(t, watcher)
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{w.commit("1")}}))(t)
	if c := next(t, watcher); c.Missed || len(c.Heads) != 1 {
		t.Errorf("after that missed %v, %d heads", c.Missed, len(c.Heads))
	}
}
