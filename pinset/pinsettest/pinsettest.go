// Package pinsettest says in tests what [pinset.Set] promises. Start with [Run], which every implementation
// passes; [NewMemory] is one that lives in memory.
package pinsettest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/pinset"
)

// Run tests an implementation. open returns an empty set that lives as long as the test, and root stores a
// small DAG in what the set pins from, a different one for each n, and returns its root.
func Run(t *testing.T, open func(t *testing.T) (s pinset.Set, root func(n int) cid.Cid)) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, pinset.Set, func(int) cid.Cid)
	}{
		{"what is added is listed with all that was said", testAdd},
		{"adding again replaces what was said", testAddAgain},
		{"removing what is absent is no error", testRemove},
		{"each owner has a pin of its own", testOwners},
		{"an owner that cannot be is refused", testBadOwner},
		{"an unknown root is unpinned", testUnknown},
		{"pins are listed in the order of their creation", testOrder},
		{"a creation time is set if none is given", testCreated},
		{"a name may be that of several pins, and empty", testNames},
		{"what was removed and is added again is a new pin", testAddAfterRemove},
		{"meta is kept to the byte or refused, and nothing changes", testLargeMeta},
		{"versions and codecs of a CID are different roots", testCIDs},
		{"an undefined root is refused", testUndefined},
		{"listing can stop early", testStop},
		{"many at once", testConcurrent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, root := open(t)
			tc.test(t, s, root)
		})
	}
}

// Root returns the CID of a raw block that says n, for sets that look at no block.
func Root(n int) cid.Cid {
	h, err := mh.Sum(fmt.Appendf(nil, "root %d", n), mh.SHA2_256, -1)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return cid.NewCidV1(cid.Raw, h)
}

func add(t *testing.T, s pinset.Set, p pinset.Pin) {
	t.Helper()
	if err := s.Add(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, s pinset.Set) []pinset.Pin {
	t.Helper()
	var pins []pinset.Pin
	for p, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, p)
	}
	return pins
}

func wantPins(t *testing.T, s pinset.Set, want ...pinset.Pin) {
	t.Helper()
	if diff := cmp.Diff(want, list(t, s), cmp.Comparer(cid.Cid.Equals), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Fatalf("pins (-want +got):\n%s", diff)
	}
}

// patience is how long peers may take to get what is pinned.
const patience = 30 * time.Second

// wantPinned waits until a root is pinned, which in the meantime must never be said to be unpinned.
func wantPinned(t *testing.T, s pinset.Set, root cid.Cid) pinset.Pin {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); ; <-tick.C {
		st, err := s.Status(t.Context(), root)
		switch {
		case err != nil:
			t.Fatal(err)
		case st.State == pinset.Pinned && len(st.Pins) > 0:
			p, _ := st.Of("")
			return p
		case st.State != pinset.Pinning || time.Now().After(until):
			t.Fatalf("%s is %s, want it to become %s; pins %v, replicas %+v", root, st.State, pinset.Pinned, st.Pins, st.Replicas)
		}
	}
}

func wantUnpinned(t *testing.T, s pinset.Set, root cid.Cid) {
	t.Helper()
	st, err := s.Status(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if st.State != pinset.Unpinned || len(st.Pins) > 0 {
		t.Fatalf("%s is %s, want %s; pins %v", root, st.State, pinset.Unpinned, st.Pins)
	}
}

func day(n int) time.Time { return time.Date(2026, 1, n, 12, 0, 0, 123456789, time.UTC) }

func testAdd(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	p := pinset.Pin{Root: root(1), Name: "home \x00 \"quoted\" ü", Meta: map[string]string{"path": "/home", "": "x"}, Created: day(1)}
	add(t, s, p)
	wantPins(t, s, p)
	got := wantPinned(t, s, p.Root)
	if diff := cmp.Diff(p, got, cmp.Comparer(cid.Cid.Equals), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Fatalf("status (-want +got):\n%s", diff)
	}
}

func testAddAgain(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	add(t, s, pinset.Pin{Root: root(1), Name: "old", Meta: map[string]string{"a": "1"}, Created: day(1)})
	again := pinset.Pin{Root: root(1), Name: "new", Meta: map[string]string{"b": "2"}, Created: day(1)}
	add(t, s, again)
	wantPins(t, s, again)
	again.Meta = map[string]string{"b": "3"}
	add(t, s, again)
	wantPins(t, s, again)
	again.Created = day(2)
	add(t, s, again)
	wantPins(t, s, again)
}

func testRemove(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	add(t, s, pinset.Pin{Root: root(1), Created: day(1)})
	for range 2 {
		if err := s.Remove(t.Context(), root(1), ""); err != nil {
			t.Fatal(err)
		}
	}
	wantPins(t, s)
	wantUnpinned(t, s, root(1))
}

func testOwners(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	people := pinset.Pin{Root: root(1), Name: "kept", Created: day(2)}
	volume := pinset.Pin{Root: root(1), Owner: "volume/1", Meta: map[string]string{"a": "1"}, Created: day(1)}
	other := pinset.Pin{Root: root(1), Owner: "volume/12", Created: day(3)}
	for _, p := range []pinset.Pin{people, volume, other} {
		add(t, s, p)
	}
	wantPins(t, s, volume, people, other)
	st, err := s.Status(t.Context(), root(1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]pinset.Pin{people, volume, other}, st.Pins, cmp.Comparer(cid.Cid.Equals), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Fatalf("status (-want +got):\n%s", diff)
	}
	if p, ok := st.Of("volume/1"); !ok || p.Meta["a"] != "1" {
		t.Errorf("of the volume: %v, %v", p, ok)
	}
	if p, ok := st.Of("volume/2"); ok {
		t.Errorf("of another volume: %v", p)
	}
	volume.Name, volume.Meta = "again", nil
	add(t, s, volume)
	wantPins(t, s, volume, people, other)
	for _, step := range []struct {
		owner string
		left  []pinset.Pin
	}{{"volume/2", []pinset.Pin{volume, people, other}}, {"volume/1", []pinset.Pin{people, other}}, {"", []pinset.Pin{other}}, {"volume/12", nil}} {
		if err := s.Remove(t.Context(), root(1), step.owner); err != nil {
			t.Fatal(err)
		}
		wantPins(t, s, step.left...)
	}
	wantUnpinned(t, s, root(1))
}

func testBadOwner(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	for _, owner := range []string{strings.Repeat("x", pinset.MaxOwner+1), "\xff"} {
		if err := s.Add(t.Context(), pinset.Pin{Root: root(1), Owner: owner}); !errors.Is(err, pinset.ErrOwner) {
			t.Errorf("%q: %v", owner, err)
		}
	}
	wantPins(t, s)
	add(t, s, pinset.Pin{Root: root(1), Owner: strings.Repeat("x", pinset.MaxOwner), Created: day(1)})
}

func testUnknown(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	wantUnpinned(t, s, root(5))
}

func testOrder(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	var want []pinset.Pin
	for i := range 20 {
		want = append(want, pinset.Pin{Root: root(i), Created: day(i + 1)})
	}
	for i := range want {
		add(t, s, want[(i*7)%len(want)])
	}
	wantPins(t, s, want...)
}

func testCreated(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	from := time.Now()
	add(t, s, pinset.Pin{Root: root(1)})
	created := wantPinned(t, s, root(1)).Created
	if created.Before(from.Add(-time.Second)) || created.After(time.Now().Add(time.Second)) {
		t.Fatalf("created %s, added at %s", created, from)
	}
	add(t, s, pinset.Pin{Root: root(1), Name: "again"})
	if again := wantPinned(t, s, root(1)).Created; !again.Equal(created) {
		t.Fatalf("adding again moved the creation from %s to %s", created, again)
	}
}

func testNames(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	want := []pinset.Pin{
		{Root: root(1), Name: "same", Created: day(1)}, {Root: root(2), Name: "same", Created: day(2)},
		{Root: root(3), Created: day(3)}, {Root: root(4), Created: day(4)},
	}
	for _, p := range want {
		add(t, s, p)
	}
	wantPins(t, s, want...)
}

func testAddAfterRemove(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	add(t, s, pinset.Pin{Root: root(1), Name: "old", Meta: map[string]string{"a": "1"}, Created: day(1)})
	if err := s.Remove(t.Context(), root(1), ""); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	add(t, s, pinset.Pin{Root: root(1)})
	got := list(t, s)
	if len(got) != 1 || got[0].Name != "" || got[0].Meta != nil || got[0].Created.Before(from.Add(-time.Second)) {
		t.Fatalf("pins %+v, want one that knows nothing of the former", got)
	}
}

func testLargeMeta(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	p := pinset.Pin{Root: root(1), Name: "n", Meta: map[string]string{"k": strings.Repeat("0123456789abcdef", 128)}, Created: day(1)}
	add(t, s, p)
	wantPins(t, s, p)
	larger := p
	larger.Meta = map[string]string{"k": strings.Repeat("x", 1<<20)}
	if err := s.Add(t.Context(), larger); err == nil {
		p = larger
	}
	if !cmp.Equal([]pinset.Pin{p}, list(t, s), cmp.Comparer(cid.Cid.Equals), cmp.Comparer(time.Time.Equal)) {
		t.Fatalf("1 MiB of meta was neither kept nor refused whole")
	}
}

func testCIDs(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	a := root(1)
	b := cid.NewCidV1(cid.DagCBOR+1, a.Hash())
	add(t, s, pinset.Pin{Root: a, Created: day(1)})
	wantUnpinned(t, s, b)
}

func testUndefined(t *testing.T, s pinset.Set, _ func(int) cid.Cid) {
	if err := s.Add(t.Context(), pinset.Pin{}); err == nil {
		t.Fatal("a pin of nothing was accepted")
	}
	wantPins(t, s)
}

func testStop(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	for i := range 3 {
		add(t, s, pinset.Pin{Root: root(i), Created: day(i + 1)})
	}
	for p, err := range s.All(t.Context()) {
		if err != nil || !p.Root.Equals(root(0)) {
			t.Fatalf("first: %s, %v", p.Root, err)
		}
		break
	}
}

func testConcurrent(t *testing.T, s pinset.Set, root func(int) cid.Cid) {
	roots := make([]cid.Cid, 40)
	for i := range roots {
		roots[i] = root(i)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g * 10; i < g*10+10; i++ {
				err := s.Add(t.Context(), pinset.Pin{Root: roots[i], Created: day(1)})
				listed := false
				for p, lerr := range s.All(t.Context()) {
					err = errors.Join(err, lerr)
					listed = listed || p.Root.Equals(roots[i])
				}
				if !listed {
					t.Errorf("pin %d is not in a list that was begun after it was added", i)
				}
				if i%2 == 1 {
					err = errors.Join(err, s.Remove(t.Context(), roots[i], ""))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := len(list(t, s)); got != 20 {
		t.Fatalf("%d pins, want 20", got)
	}
}
