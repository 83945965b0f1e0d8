package rotation_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/publish"
	"github.com/volary/volary/volume/rotation"
)

type session struct{ *store.Session }

func (s session) SaveStat(context.Context, []importer.StatRecord) error { return nil }

// world is what hosts have in common: the secret, and all blocks.
type world struct {
	t      *testing.T
	blocks *store.Store
	own    *local.Set
	before *namespace.Namespace
	after  *namespace.Namespace
	now    time.Time
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := must(store.Open(t.TempDir(), store.Options{}))(t)
	t.Cleanup(func() { s.Close() })
	return &world{
		t: t, blocks: s, own: local.New(s, s.BeginSweep), now: time.Now().Add(-time.Hour),
		before: must(namespace.Open(namespace.NewSecret()))(t), after: must(namespace.Open(namespace.NewSecret()))(t),
	}
}

func (w *world) begin(ctx context.Context) (volume.Session, error) {
	s, err := w.blocks.Session(ctx)
	return session{s}, err
}

// host is one of several, with a table and pins of its own.
type host struct {
	*world
	*volume.Manager
	dir   string
	table *table.Table
	heads *publish.Heads
	pins  *pinsettest.Memory
}

func (w *world) host(name string) *host {
	w.t.Helper()
	h := &host{world: w, dir: w.t.TempDir(), pins: pinsettest.NewMemory()}
	h.table = must(table.Open(filepath.Join(h.dir, "heads.db"), publish.History(w.blocks)))(w.t)
	h.heads = publish.New(publish.Options{Namespace: w.before, Table: h.table, Begin: w.begin, Blocks: w.blocks, Pins: h.pins, Author: name})
	h.Manager = must(volume.Open(filepath.Join(h.dir, "volumes"), volume.Options{
		Begin: w.begin, Blocks: w.blocks, Pins: h.pins, Own: w.own, Heads: h.heads, Author: name,
		Now: func() time.Time { w.now = w.now.Add(time.Second); return w.now },
	}))(w.t)
	w.t.Cleanup(func() { h.Manager.Close(); h.table.Close() })
	return h
}

func (h *host) do(op volume.Operation) cid.Cid {
	h.t.Helper()
	return must(h.Do(h.t.Context(), op))(h.t).Commit.Cid
}

// hear has a host know all that another one knows, and keep it if it is to.
func (h *host) hear(other *host, keep bool) {
	h.t.Helper()
	var news table.News
	for _, v := range must(other.table.Volumes())(h.t) {
		news.Heads, news.Bindings = append(news.Heads, v.Tips()...), append(news.Bindings, v.Binding)
	}
	must(h.heads.Hear(h.t.Context(), news))(h.t)
	if err := h.Hear(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	for p := range other.pins.All(h.t.Context()) {
		if keep {
			h.pins.Add(h.t.Context(), p)
		}
	}
}

// prepared is what rotation.Prepare makes of a host.
func (h *host) prepared() ([]rotation.Moved, rotation.Options) {
	h.t.Helper()
	next := must(table.Open(filepath.Join(h.t.TempDir(), "next.db"), publish.History(h.blocks)))(h.t)
	h.t.Cleanup(func() { next.Close() })
	o := rotation.Options{To: h.after, Volumes: h.Manager, Begin: h.begin, Pins: h.pins, Own: h.own, Before: h.table, Table: next}
	return must(rotation.Prepare(h.t.Context(), o))(h.t), o
}

// contents are the bindings and records of a table.
func contents(t *testing.T, tb *table.Table) map[string][][]byte {
	t.Helper()
	all := map[string][][]byte{}
	for _, v := range must(tb.Volumes())(t) {
		all[v.Key.String()] = [][]byte{v.Binding.Data}
		for _, tip := range v.Tips() {
			all[v.Key.String()] = append(all[v.Key.String()], tip.Record)
		}
	}
	return all
}

func (h *host) pinned() (all []string) {
	for p := range h.pins.All(h.t.Context()) {
		all = append(all, p.Owner+" "+p.Root.String())
	}
	slices.Sort(all)
	return all
}

func (w *world) commit(c cid.Cid) *snapshot.Commit {
	w.t.Helper()
	return must(snapshot.DecodeCommit(must(w.blocks.Get(w.t.Context(), c))(w.t)))(w.t)
}

// two are hosts that both changed a volume without hearing of each other, and know that now; one was removed, one renamed.
func two(t *testing.T) (a, b *host) {
	w := newWorld(t)
	a, b = w.host("a"), w.host("b")
	a.do(&volume.Create{Name: "data", Options: map[string]string{"commit": "5m", "exec-head": "true"}})
	a.do(&volume.Create{Name: "before"})
	a.do(&volume.Rename{Name: "before", To: "after"})
	a.do(&volume.Create{Name: "gone"})
	a.do(&volume.Remove{Name: "gone"})
	b.hear(a, true)
	a.do(&volume.Rollback{Name: "data", To: "1", Message: "a"})
	b.do(&volume.Rollback{Name: "data", To: "1", Message: "b"})
	b.do(&volume.Rollback{Name: "data", To: "1", Message: "more of b"})
	b.do(&volume.Create{Name: "theirs"})
	a.hear(b, true)
	b.hear(a, true)
	return a, b
}

func TestHostsThatKnowTheSameGoOverToTheSame(t *testing.T) {
	a, b := two(t)
	moved, to := a.prepared()
	_, other := b.prepared()
	if diff := cmp.Diff(contents(t, to.Table), contents(t, other.Table)); diff != "" {
		t.Errorf("the tables differ:\n%s", diff)
	}
	if len(moved) != 4 {
		t.Errorf("%d volumes went over, want 4", len(moved))
	}
	for _, m := range moved {
		was := must(a.table.Volume(must(namespace.ParseName(m.From))(t)))(t)
		is := must(to.Table.Volume(must(namespace.ParseName(m.Key.Volume))(t)))(t)
		if is.Binding.Name != was.Binding.Name || is.Removed() != was.Removed() || len(is.Forks) != len(was.Forks) || is.Head.Sequence < was.Head.Sequence {
			t.Errorf("%s: %+v became %+v", m.Name, was, is)
		}
		c := a.commit(is.Head.Commit)
		if head.IsTombstone(c) != was.Removed() || !was.Removed() && !slices.Equal(c.Parents, []cid.Cid{was.Head.Commit}) {
			t.Errorf("%s: the head is %+v, of %s", m.Name, c, was.Head.Commit)
		}
		want := map[string]string{}
		if m.Name == "data" {
			want["volary.option.commit"] = "5m"
		}
		if !was.Removed() && !maps.Equal(c.Labels, want) {
			t.Errorf("%s: the labels are %v, want %v", m.Name, c.Labels, want)
		}
		if key := must(a.after.Key(is.Binding))(t); key == nil || is.Key == was.Key {
			t.Errorf("%s has the key that it had", m.Name)
		}
		if _, err := a.before.Verify(is.Binding.Data); err == nil {
			t.Errorf("%s: the namespace before signed the name", m.Name)
		}
	}
}

func TestPreparingAgainMakesTheSameAndChangesNothing(t *testing.T) {
	a, _ := two(t)
	before := contents(t, a.table)
	first, to := a.prepared()
	pins := a.pinned()
	again, to2 := a.prepared()
	if diff := cmp.Diff(first, again, cmp.Comparer(func(x, y volume.CID) bool { return x == y })); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(contents(t, to.Table), contents(t, to2.Table)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(pins, a.pinned()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, contents(t, a.table)); diff != "" {
		t.Error(diff)
	}
}

func TestApplyingGivesVolumesAndPinsToTheSuccessors(t *testing.T) {
	a, _ := two(t)
	moved, o := a.prepared()
	for range 2 { // again is no change
		if err := rotation.Apply(t.Context(), o, moved, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		for _, m := range moved {
			if slices.ContainsFunc(a.pinned(), func(p string) bool { return strings.Contains(p, m.From) }) {
				t.Errorf("%s is pinned still as what it was", m.Name)
			}
		}
		for _, at := range must(a.Recorded())(t) {
			i := slices.IndexFunc(moved, func(m rotation.Moved) bool { return m.Key.Volume == at.ID })
			if i < 0 || !at.Removed && (at.Head != moved[i].Head.Cid || at.Sequence != moved[i].Sequence) {
				t.Errorf("recorded is %+v of %+v", at, moved)
			}
		}
	}
}

func TestWhatIsKeptElsewhereIsLeftToThoseWhoKeepIt(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	a.do(&volume.Create{Name: "data"})
	b.hear(a, true)
	b.do(&volume.Rollback{Name: "data", To: "1"}) // so that it is recorded there
	a.hear(b, true)
	a.do(&volume.Rollback{Name: "data", To: "1"})
	a.do(&volume.Create{Name: "other"})
	b.hear(a, false)
	moved, o := b.prepared()
	for _, m := range moved {
		if !m.Elsewhere || m.Head.Defined() {
			t.Errorf("%+v", m)
		}
		v := must(o.Table.Volume(must(namespace.ParseName(m.Key.Volume))(t)))(t)
		if v.Head.Record != nil || v.Binding.Name != m.Name {
			t.Errorf("%s is at %+v", m.Name, v)
		}
	}
	// Once that host went over, and this one hears of it, they are at the same.
	if err := rotation.Apply(t.Context(), o, moved, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	_, there := a.prepared()
	for _, v := range must(there.Table.Volumes())(t) {
		must(o.Table.Learn(t.Context(), table.News{Heads: v.Tips(), Bindings: []namespace.Binding{v.Binding}}))(t)
	}
	if diff := cmp.Diff(contents(t, there.Table), contents(t, o.Table)); diff != "" {
		t.Error(diff)
	}
}

func TestOfAVolumeThatIsKeptElsewhereNameAndEndAreTold(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	a.do(&volume.Create{Name: "data"})
	b.hear(a, false)
	moved, o := b.prepared()
	heads := publish.New(publish.Options{Namespace: w.after, Table: o.Table, Begin: w.begin, Blocks: w.blocks, Pins: b.pins, Author: "b"})
	told := volume.Told{Key: &moved[0].Key, At: volume.At{ID: moved[0].Key.Volume, Name: "data", Head: must(a.table.Named("data"))(t).Head.Commit, Sequence: 1}}
	tell := func(what string) namespace.Binding {
		t.Helper()
		if err := heads.Tell(t.Context(), told); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		v := must(o.Table.Volume(must(namespace.ParseName(told.ID))(t)))(t)
		if v.Head.Record != nil {
			t.Errorf("%s: it is at %s, which nobody made", what, v.Head.Commit)
		}
		return v.Binding
	}
	if got := tell("the same"); got.Name != "data" {
		t.Errorf("its name is %q", got.Name)
	}
	told.Name, told.Renamed = "renamed", true
	if got := tell("another name"); got.Name != "renamed" {
		t.Errorf("its name is %q", got.Name)
	}
	told.Renamed, told.Removed, told.Ended = false, true, w.now
	if !tell("its end").Removed() {
		t.Error("it is not removed")
	}
}

func TestAStateThatNobodyHeardOfBecomesAFork(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	a.do(&volume.Create{Name: "data"})
	b.hear(a, true)
	mine := a.do(&volume.Rollback{Name: "data", To: "1", Message: "a"})
	theirs := b.do(&volume.Rollback{Name: "data", To: "1", Message: "b"})
	_, o := a.prepared()
	_, there := b.prepared()
	for _, v := range must(there.Table.Volumes())(t) {
		must(o.Table.Learn(t.Context(), table.News{Heads: v.Tips(), Bindings: []namespace.Binding{v.Binding}}))(t)
	}
	v := must(o.Table.Named("data"))(t)
	var parents []cid.Cid
	for _, tip := range v.Tips() {
		parents = append(parents, w.commit(tip.Commit).Parents...)
	}
	if len(parents) != 2 || !slices.Contains(parents, mine) || !slices.Contains(parents, theirs) {
		t.Errorf("the tips come of %s, want %s and %s", parents, mine, theirs)
	}
}

func TestAHostThatMayOnlyReadMakesNothing(t *testing.T) {
	a, _ := two(t)
	a.after = must(namespace.OpenReadOnly(a.after.PublicKey()))(t)
	next := must(table.Open(filepath.Join(t.TempDir(), "next.db"), nil))(t)
	defer next.Close()
	pins := a.pinned()
	_, err := rotation.Prepare(t.Context(), rotation.Options{To: a.after, Volumes: a.Manager, Begin: a.begin, Pins: a.pins, Own: a.own, Before: a.table, Table: next})
	if err == nil || !slices.Equal(pins, a.pinned()) {
		t.Errorf("%v", err)
	}
}
