package publish_test

import (
	"testing"

	"github.com/volary/volary/pinset"
)

func TestAHeadThatOthersLostIsToldAgainAlsoIfItIsAFork(t *testing.T) {
	w, a, _, theirs := forked(t)
	ours := a.commit("data", "a1").Commit.Cid
	owner := "volume/" + a.info("data").ID
	w.must(w.pins.Remove(t.Context(), ours, owner))
	w.must(w.pins.Remove(t.Context(), theirs, owner))
	lacking := func(p pinset.Pin) (bool, error) { return p.Root == ours, nil }
	for _, dryRun := range []bool{true, false} {
		if n, err := a.heads.TellAgain(t.Context(), dryRun, lacking); n != 1 || err != nil {
			t.Errorf("dry run %v: %d heads, %v", dryRun, n, err)
		}
		if told := w.told(ours); told == dryRun {
			t.Errorf("dry run %v: told %v", dryRun, told)
		}
	}
	if w.told(theirs) {
		t.Error("what is not lacking was told")
	}
}
