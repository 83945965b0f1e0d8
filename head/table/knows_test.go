package table_test

import (
	"testing"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
)

func TestOnlyWhatIsNewIsNotKnown(t *testing.T) {
	w := newWorld(t)
	one, two := w.commit("one"), w.commit("two", "one")
	three, fork := w.commit("three", "two"), w.commit("fork", "one")
	stranger := w.commit("stranger")
	key := w.key("data", 1)
	old, now, next := w.bind("data", key, 1, 0), w.bind("renamed", key, 2, 0), w.bind("renamed", key, 3, 1)
	tab := w.open()
	knows := func(h head.Head) bool { return must(tab.Knows(t.Context(), h, now))(t) }
	if knows(one) {
		t.Error("an empty table knows something")
	}
	must(tab.Learn(t.Context(), table.News{Heads: []head.Head{two, fork}, Bindings: []namespace.Binding{now}}))(t)
	for what, h := range map[string]head.Head{"the head": two, "a fork": fork, "an ancestor": one, "the binding alone": {}} {
		if !knows(h) {
			t.Errorf("%s is not known", what)
		}
	}
	for what, h := range map[string]head.Head{"what comes after it": three, "another fork": stranger} {
		if knows(h) {
			t.Errorf("%s is known", what)
		}
	}
	if !must(tab.Knows(t.Context(), two, old))(t) {
		t.Error("an older binding is not known")
	}
	if must(tab.Knows(t.Context(), two, next))(t) {
		t.Error("a newer binding is known")
	}
	w.hidden[two.Commit], w.hidden[fork.Commit] = true, true
	if knows(one) {
		t.Error("an ancestor is known though the history is not")
	}
}
