package table_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/volary/volary/head"
	"github.com/volary/volary/snapshot"
)

// fork is commit on a branch that lost.
func (w *world) fork(name string, parents ...string) head.Head {
	w.t.Helper()
	h := w.commit(name, parents...)
	c := &snapshot.Commit{Sequence: h.Sequence, Time: time.Unix(int64(h.Sequence), 0)}
	for _, p := range parents {
		of := &snapshot.Commit{Sequence: w.heads[p].Sequence, Fork: w.heads[p].Fork}
		if branch := of.Branch(w.heads[p].Commit); c.Fork.Compare(branch) < 0 {
			c.Fork = branch
		}
	}
	w.heads[name] = must(head.SignCommit(w.key("data", 1), h.Commit, c))(w.t)
	return w.heads[name]
}

func TestABranchThatLostIsNotTheHeadInWhateverOrderItIsHeardOf(t *testing.T) {
	w := newWorld(t)
	heads := []head.Head{
		w.commit("1"), w.commit("lost", "1"), w.commit("other", "1"), w.commit("won", "other"),
		w.fork("lost on", "lost"), w.fork("lost more", "lost on"),
	}
	for range 200 {
		rand.Shuffle(len(heads), func(i, j int) { heads[i], heads[j] = heads[j], heads[i] })
		tab := w.open()
		for _, h := range heads {
			w.learn(tab, h)
		}
		w.want(tab, "data:won fork lost more")
		check(t, tab.Close())
	}
}

func TestAMergeOfABranchThatLostIsTheHead(t *testing.T) {
	w := newWorld(t)
	heads := []head.Head{w.commit("1"), w.commit("won", "1"), w.commit("lost", "1"), w.fork("lost on", "lost"), w.fork("lost more", "lost on")}
	heads = append(heads, w.commit("merged", "won", "lost on"))
	tab := w.open()
	w.learn(tab, heads...)
	w.want(tab, "data:merged fork lost more")
	w.learn(tab, w.commit("merged again", "merged", "lost more"))
	w.want(tab, "data:merged again")
}

func TestAHostThatKnowsOnlyABranchThatLostLeavesItForTheHead(t *testing.T) {
	w := newWorld(t)
	one, won := w.commit("1"), w.commit("won", "1")
	lost := w.fork("lost on", "1")
	lost = slices.MaxFunc([]head.Head{lost, w.fork("lost more", "lost on")}, head.Compare)
	tab := w.open()
	w.learn(tab, one, lost)
	w.want(tab, "data:lost more")
	w.learn(tab, won)
	w.want(tab, "data:won fork lost more")
	if known, err := tab.Knows(t.Context(), one, w.data()); !known || err != nil {
		t.Errorf("an ancestor of a branch that lost is new, %v", err)
	}
}
