package store

import (
	"context"
	"slices"
	"testing"

	"github.com/volary/volary/snapshot/blockstest"
)

// A writer that is still busy in a new pack must not lose the sync of its name to a Sync that goes by.
func TestTheNameOfANewPackIsSyncedAfterASyncThatFoundNothing(t *testing.T) {
	var steps []string
	s, err := Open(t.TempDir(), Options{Step: func(label string) { steps = append(steps, label) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.mu.Lock()
	r, err := s.reserve(100)
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(steps, StepIndexed) {
		t.Fatalf("a flush of nothing took the steps %v", steps)
	}
	if _, err := r.pack.file.WriteAt(make([]byte, 100), r.start); err != nil {
		t.Fatal(err)
	}
	r.pends = []*pend{{hash: "x", entry: entry{pack: r.pack.id}, res: r}}
	s.mu.Lock()
	s.pending["x"] = r.pends[0]
	s.mu.Unlock()
	if err := s.finish(r, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{StepPackCreated, StepPackSynced, StepPackDirSynced, StepIndexed}; !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}

// Between the beginning of a sweep and its census anybody may put.
func TestWhatIsPutBeforeTheCensusIsNoCandidate(t *testing.T) {
	s, err := Open(t.TempDir(), Options{PackSize: 10 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bs := blockstest.Random(1, 40, 1000)
	if err := s.Put(t.Context(), bs[:15]...); err != nil {
		t.Fatal(err)
	}
	sw, err := s.BeginSweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	if err := s.Put(t.Context(), bs[15:]...); err != nil {
		t.Fatal(err)
	}
	clear(sw.packs)
	if err := sw.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, removed, err := sw.Remove(t.Context(), false, func(context.Context) (bool, error) { return false, nil })
	if err != nil || kept.Blocks != 25 || removed.Blocks != 15 {
		t.Errorf("kept %d, removed %d, %v; want 25 and 15", kept.Blocks, removed.Blocks, err)
	}
}
