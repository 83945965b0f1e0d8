package api

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
)

type fakeHeads map[string]Signed

func (f fakeHeads) Signed(_ context.Context, name string) (Signed, error) {
	if s, ok := f[name]; ok {
		return s, nil
	}
	return Signed{}, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
}

func TestWhatIsSignedOfVolumesCrosses(t *testing.T) {
	want := Signed{Volume: "k51", Value: "/ipfs/bafy/tree", Name: "a b&c", Sequence: 7, Record: []byte{1, 2}, Binding: []byte{3}}
	h := newMemoryHost().host()
	h.Heads = fakeHeads{"a b&c": want}
	remote := dial(t, serve(t, h, ServerOptions{})).Heads
	got, err := remote.Signed(t.Context(), "a b&c")
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b volume.CID) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := remote.Signed(t.Context(), "other"); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("the error is %v", err)
	}
}

func TestAHostWithoutHeadsKnowsOfNoVolume(t *testing.T) {
	remote := dial(t, serve(t, newMemoryHost().host(), ServerOptions{})).Heads
	if _, err := remote.Signed(t.Context(), "data"); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("the error is %v", err)
	}
}
