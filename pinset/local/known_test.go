package local_test

import (
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/pinsettest"
)

func TestAHostKnowsWhatItMarkedAndWhatItMade(t *testing.T) {
	dir := t.TempDir()
	st, set := open(t, dir)
	ctx := t.Context()
	marked, made, stranger := pinsettest.Root(1), pinsettest.Root(2), pinsettest.Root(3)
	if err := set.MarkKnown(ctx, marked); err != nil {
		t.Fatal(err)
	}
	if err := set.MarkOwnBy(ctx, made, 1000); err != nil {
		t.Fatal(err)
	}
	// The mark outlives the pin.
	if err := set.Add(ctx, pinset.Pin{Root: marked}); err != nil {
		t.Fatal(err)
	}
	if err := set.Remove(ctx, marked, ""); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, set = open(t, dir)
	for root, want := range map[cid.Cid]bool{marked: true, made: true, stranger: false} {
		if known, err := set.Known(ctx, root); err != nil || known != want {
			t.Errorf("%s is known: %v, %v; want %v", root, known, err, want)
		}
	}
	if status, err := set.Status(ctx, marked); err != nil || status.State != pinset.Unpinned {
		t.Errorf("the mark counts as a pin: %+v, %v", status, err)
	}
}
