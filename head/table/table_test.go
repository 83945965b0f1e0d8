package table_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
	"github.com/volary/volary/statedb"
)

// must returns v unless err says that there is none.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

// world is the commits that were ever made. A host may not have all of them.
type world struct {
	t       testing.TB
	n       *namespace.Namespace
	parents map[cid.Cid][]snapshot.Ancestor // all ancestors, the newest first
	heads   map[string]head.Head
	hidden  map[cid.Cid]bool // commits that no host has
}

func newWorld(t testing.TB) *world {
	n := must(namespace.Open(namespace.Secret{1}))(t)
	return &world{t: t, n: n, parents: map[cid.Cid][]snapshot.Ancestor{}, heads: map[string]head.Head{}, hidden: map[cid.Cid]bool{}}
}

func (w *world) open() *table.Table {
	tab := must(table.Open(filepath.Join(w.t.TempDir(), "heads.db"), w.history))(w.t)
	w.t.Cleanup(func() { check(w.t, tab.Close()) })
	return tab
}

func (w *world) history(_ context.Context, c cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
	return func(yield func(snapshot.Ancestor, error) bool) {
		if w.hidden[c] {
			yield(snapshot.Ancestor{}, snapshot.ErrNotFound)
			return
		}
		for _, a := range w.parents[c] {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// commit makes a head of volume "data" named by a text, after the ones named.
func (w *world) commit(name string, parents ...string) head.Head {
	w.t.Helper()
	return w.commitOf(w.key("data", 1), name, parents...)
}

func (w *world) commitOf(key crypto.PrivKey, name string, parents ...string) head.Head {
	w.t.Helper()
	root := must(dagcbor.Encode(name))(w.t).Cid()
	sequence := uint64(1)
	var all []snapshot.Ancestor
	for _, p := range parents {
		h := w.heads[p]
		sequence = max(sequence, h.Sequence+1)
		all = append(append(all, snapshot.Ancestor{CID: h.Commit, Sequence: h.Sequence}), w.parents[h.Commit]...)
	}
	slices.SortFunc(all, func(a, b snapshot.Ancestor) int {
		if a.Sequence != b.Sequence {
			return int(b.Sequence) - int(a.Sequence)
		}
		return strings.Compare(a.CID.KeyString(), b.CID.KeyString())
	})
	w.parents[root] = slices.CompactFunc(all, func(a, b snapshot.Ancestor) bool { return a.CID == b.CID })
	w.heads[name] = must(head.Sign(key, root, sequence, time.Unix(int64(sequence), 0)))(w.t)
	return w.heads[name]
}

func (w *world) key(name string, generation uint64) crypto.PrivKey {
	return must(w.n.DeriveKey(name, generation))(w.t)
}

func (w *world) bind(name string, key crypto.PrivKey, generation, life uint64) namespace.Binding {
	return must(w.n.Bind(name, key, generation, life))(w.t)
}

// data is the binding of the volume of commit.
func (w *world) data() namespace.Binding {
	return w.bind("data", w.key("data", 1), 1, 0)
}

// show tells a volume in few words.
func (w *world) show(v table.Volume) string {
	name := func(h head.Head) string {
		for name, o := range w.heads {
			if o.Commit == h.Commit {
				return name
			}
		}
		return "none"
	}
	text := v.Binding.Name + ":" + name(v.Head)
	for _, f := range v.Forks {
		text += " fork " + name(f)
	}
	for _, word := range []struct {
		text string
		is   bool
	}{{"removed", v.Removed()}, {"unnamed", !v.Named}, {"unsent", v.Unsent}} {
		if word.is {
			text += " " + word.text
		}
	}
	return text
}

func (w *world) want(tab *table.Table, want string) {
	w.t.Helper()
	v, err := tab.Volume(w.data().Volume)
	check(w.t, err)
	if got := w.show(v); got != want {
		w.t.Errorf("got %s\nwant %s", got, want)
	}
}

func (w *world) learn(tab *table.Table, heads ...head.Head) {
	w.t.Helper()
	must(tab.Learn(w.t.Context(), table.News{Heads: heads, Bindings: []namespace.Binding{w.data()}}))(w.t)
}

func TestHeadDoesNotMoveBack(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	first, second := w.commit("1"), w.commit("2", "1")
	w.learn(tab, second)
	changed := must(tab.Learn(t.Context(), table.News{Heads: []head.Head{first, second}}))(t)
	if len(changed) != 0 {
		t.Errorf("old news changed %v", changed)
	}
	w.want(tab, "data:2")
}

func TestForksAreKeptUntilTheyAreMerged(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	base, left, right := w.commit("base"), w.commit("left", "base"), w.commit("right", "base")
	longer := w.commit("longer", "right")
	w.learn(tab, base, left, right)
	if head.Compare(left, right) > 0 {
		w.want(tab, "data:left fork right")
	} else {
		w.want(tab, "data:right fork left")
	}
	w.learn(tab, longer)
	w.want(tab, "data:longer fork left")
	w.learn(tab, w.commit("merged", "longer", "left"))
	w.want(tab, "data:merged")
}

func TestTheSameNewsInAnyOrderGiveTheSameHeadAndForks(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	names := []string{"0"}
	w.commit("0")
	for i := 1; i < 40; i++ {
		name := fmt.Sprint(i)
		parents := []string{names[r.IntN(len(names))]}
		if r.IntN(4) == 0 {
			parents = append(parents, names[r.IntN(len(names))])
		}
		w.commit(name, parents...)
		names = append(names, name)
	}
	// What nothing descends from must be there, whoever hears of it when.
	ancestors := map[cid.Cid]bool{}
	for _, as := range w.parents {
		for _, a := range as {
			ancestors[a.CID] = true
		}
	}
	tips := 0
	for _, h := range w.heads {
		if !ancestors[h.Commit] {
			tips++
		}
	}
	want := ""
	for range 8 {
		tab := w.open()
		var best head.Head
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for left := names; len(left) > 0; {
			n := 1 + r.IntN(min(3, len(left)))
			var heads []head.Head
			for _, name := range left[:n] {
				heads = append(heads, w.heads[name])
			}
			left = left[n:]
			w.learn(tab, heads...)
			v := must(tab.Volume(w.data().Volume))(t)
			if best.Record != nil && head.Compare(v.Head, best) < 0 {
				t.Fatalf("moved back from %s to %s", best.Commit, v.Head.Commit)
			}
			best = v.Head
		}
		v := must(tab.Volume(w.data().Volume))(t)
		if got := w.show(v); want == "" {
			want = got
		} else if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		if 1+len(v.Forks) != tips {
			t.Errorf("%d tips, want %d", 1+len(v.Forks), tips)
		}
	}
}

func TestForkThatIsNoneGoesOnceItsDescendantIsHere(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	w.commit("1")
	w.commit("2", "1")
	w.hidden[w.heads["2"].Commit] = true
	w.learn(tab, w.heads["1"])
	w.learn(tab, w.heads["2"])
	w.want(tab, "data:2 fork 1")
	clear(w.hidden)
	check(t, tab.Settle(t.Context(), w.data().Volume))
	w.want(tab, "data:2")
}

func TestAdvanceIsRefusedFromAStateThatIsNotTheHead(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	ctx := t.Context()
	one, two, rival, three := w.commit("1"), w.commit("2", "1"), w.commit("rival", "1"), w.commit("3", "2")
	b := w.data()
	wantErr(t, tab.Advance(ctx, cid.Undef, one, nil), table.ErrUnknown)
	check(t, tab.Advance(ctx, cid.Undef, one, &b))
	check(t, tab.Advance(ctx, one.Commit, two, nil))
	wantErr(t, tab.Advance(ctx, one.Commit, rival, nil), table.ErrConflict)
	wantErr(t, tab.Advance(ctx, cid.Undef, rival, nil), table.ErrConflict)
	wantErr(t, tab.Advance(ctx, two.Commit, one, nil), table.ErrConflict)
	wantErr(t, tab.Advance(ctx, two.Commit, rival, nil), table.ErrConflict)
	w.want(tab, "data:2 unsent")
	check(t, tab.Advance(ctx, one.Commit, two, nil)) // done already
	w.hidden[three.Commit] = true                    // what was made from the head is no fork of it, whatever is known
	check(t, tab.Advance(ctx, two.Commit, three, nil))
	w.want(tab, "data:3 unsent")
}

func TestTableIsTheSameAfterItWasOpenedAgain(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "heads.db")
	tab := must(table.Open(path, w.history))(t)
	b := w.data()
	check(t, tab.Advance(t.Context(), cid.Undef, w.commit("1"), &b))
	w.learn(tab, w.commit("rival"))
	other := w.bind("other", w.key("other", 1), 1, 0)
	must(tab.Learn(t.Context(), table.News{Bindings: []namespace.Binding{other}, Heads: []head.Head{w.commitOf(w.key("other", 1), "o")}}))(t)
	want := must(tab.Volumes())(t)
	check(t, tab.Close())
	tab = must(table.Open(path, nil))(t)
	defer tab.Close()
	got := must(tab.Volumes())(t)
	same := cmp.Comparer(func(a, b table.Volume) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) })
	if diff := cmp.Diff(want, got, same); diff != "" || len(got) != 2 {
		t.Errorf("(-before +after):\n%s", diff)
	}
	for _, h := range []head.Head{got[0].Head, got[1].Head} {
		if _, err := head.Verify(h.Volume, h.Record); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsNotSignedIsNotRecorded(t *testing.T) {
	w := newWorld(t)
	tab := w.open()
	h, b := w.commit("1"), w.data()
	h.Record, b.Data = nil, nil
	for _, news := range []table.News{{Heads: []head.Head{h}}, {Bindings: []namespace.Binding{b}}} {
		if _, err := tab.Learn(t.Context(), news); err == nil {
			t.Errorf("recorded %+v", news)
		}
	}
	_, err := tab.Volume(b.Volume)
	wantErr(t, err, table.ErrUnknown)
}

func TestTableOfANewerProgramIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heads.db")
	db := must(statedb.Open(path, 99))(t)
	check(t, db.Close())
	_, err := table.Open(path, nil)
	wantErr(t, err, statedb.ErrNewer)
}

func BenchmarkLearnTenThousandVolumes(b *testing.B) {
	w := newWorld(b)
	var news table.News
	for i := range 10_000 {
		key := w.key(fmt.Sprint(i), 1)
		news.Heads = append(news.Heads, w.commitOf(key, fmt.Sprint(i)))
		news.Bindings = append(news.Bindings, w.bind(fmt.Sprint(i), key, 1, 0))
	}
	for b.Loop() {
		tab := w.open()
		must(tab.Learn(b.Context(), news))(b)
		if n := len(must(tab.Volumes())(b)); n != 10_000 {
			b.Fatal(n)
		}
	}
}
