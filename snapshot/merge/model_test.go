package merge_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/merge"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/tree/treetest"
)

// value is a file or a directory of a plain tree.
type value struct {
	dir  bool
	data string
	mode uint16
	sec  int64
}

type plain map[string]value

func (p plain) node(dir string) treetest.Node {
	n := treetest.Dir(map[string]treetest.Node{})
	if v, ok := p[dir]; ok {
		n = n.With(func(a *meta.Attr) { a.Mode, a.Sec = v.mode, v.sec })
	}
	for at, v := range p {
		switch {
		case path.Dir("/"+at) != path.Clean("/"+dir) || at == "":
		case v.dir:
			n.Children[path.Base(at)] = p.node(at)
		default:
			n.Children[path.Base(at)] = treetest.File(v.data).With(func(a *meta.Attr) { a.Mode, a.Sec = v.mode, v.sec })
		}
	}
	return n
}

func (p plain) open(t testing.TB, b snapshot.Blocks) *tree.Snapshot {
	t.Helper()
	return open(t, b, treetest.Commit(t, b, p.node("")))
}

func open(t testing.TB, b snapshot.Blocks, c cid.Cid) *tree.Snapshot {
	t.Helper()
	s, err := tree.Open(t.Context(), b, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// some returns a plain tree. In a typed one, what a name is does not change.
func some(r *rand.Rand, typed bool) plain {
	p := plain{"": {dir: true, mode: 0o755, sec: 1}}
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		for _, name := range []string{"a", "b", "c", "x", "y"} {
			at := strings.TrimPrefix(dir+"/"+name, "/")
			isDir := name >= "x"
			if !typed {
				isDir = r.IntN(3) == 0
			}
			if isDir = isDir && depth < 3; r.IntN(3) > 0 && (isDir || name < "x" || !typed) {
				p[at] = value{dir: isDir, data: fmt.Sprint(r.IntN(3)), mode: 0o700 + uint16(r.IntN(2)), sec: int64(r.IntN(3))}
				if isDir {
					p[at] = value{dir: true, mode: 0o700 + uint16(r.IntN(2)), sec: int64(r.IntN(3))}
					fill(at, depth+1)
				}
			}
		}
	}
	fill("", 1)
	return p
}

// changed is a tree with some paths as in another one.
func changed(r *rand.Rand, p, other plain) plain {
	next := maps.Clone(p)
	for range 1 + r.IntN(6) {
		keys := append(slices.Collect(maps.Keys(other)), slices.Collect(maps.Keys(p))...)
		slices.Sort(keys)
		at := keys[r.IntN(len(keys))]
		if at == "" || !next[dirOf(at)].dir {
			continue
		}
		for below := range next {
			if below == at || strings.HasPrefix(below, at+"/") {
				delete(next, below)
			}
		}
		if r.IntN(4) == 0 {
			continue // removed
		}
		for below, v := range other {
			if below == at || strings.HasPrefix(below, at+"/") {
				next[below] = v
			}
		}
	}
	return next
}

func dirOf(at string) string { return strings.TrimPrefix(path.Dir("/"+at), "/") }

func merged(t testing.TB, b snapshot.Blocks, base, ours, theirs plain, o merge.Options) merge.Result {
	t.Helper()
	res, err := merge.Merge(t.Context(), b, base.open(t, b), ours.open(t, b), theirs.open(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func equal(t testing.TB, b snapshot.Blocks, what string, got *snapshot.Commit, want plain) {
	t.Helper()
	c := want.open(t, b).Commit
	if got.Tree != c.Tree || got.Meta != c.Meta {
		t.Fatalf("%s: tree %s and sidecar %s, want %s and %s: %v", what, got.Tree, got.Meta, c.Tree, c.Meta, want)
	}
}

func rounds(t *testing.T, each func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	for seed := range uint64(400) {
		if each(t, rand.New(rand.NewPCG(seed, 1))); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestOnlyOneSideChanged(t *testing.T) {
	rounds(t, func(t *testing.T, r *rand.Rand) {
		b := blockstest.NewMemory()
		base := some(r, false)
		a := changed(r, base, some(r, false))
		for what, sides := range map[string][2]plain{"ours": {a, base}, "theirs": {base, a}, "both alike": {a, a}} {
			res := merged(t, b, base, sides[0], sides[1], merge.Options{})
			if len(res.Conflicts) > 0 {
				t.Errorf("%s: conflicts %v", what, res.Conflicts)
			}
			equal(t, b, what, res.Commit, a)
		}
	})
}

func TestSidesCanBeExchanged(t *testing.T) {
	rounds(t, func(t *testing.T, r *rand.Rand) {
		b := blockstest.NewMemory()
		base := some(r, false)
		x, y := changed(r, base, some(r, false)), changed(r, base, some(r, false))
		for take, other := range map[merge.Take]merge.Take{merge.Ours: merge.Theirs, merge.Theirs: merge.Ours} {
			one, two := merged(t, b, base, x, y, merge.Options{Take: take}), merged(t, b, base, y, x, merge.Options{Take: other})
			if one.Commit.Tree != two.Commit.Tree || one.Commit.Meta != two.Commit.Meta {
				t.Errorf("%s of the one and %s of the other differ: base %v, sides %v and %v", take, other, base, x, y)
			}
			for i := range two.Conflicts {
				two.Conflicts[i].Ours, two.Conflicts[i].Theirs = two.Conflicts[i].Theirs, two.Conflicts[i].Ours
			}
			if d := cmp.Diff(one.Conflicts, two.Conflicts); d != "" {
				t.Errorf("conflicts differ:\n%s", d)
			}
		}
	})
}

func TestMergeEqualsThatOfPlainMaps(t *testing.T) {
	clean := 0
	rounds(t, func(t *testing.T, r *rand.Rand) {
		b := blockstest.NewMemory()
		base := some(r, true)
		x, y := changed(r, base, some(r, true)), changed(r, base, some(r, true))
		for _, take := range []merge.Take{merge.None, merge.Ours, merge.Theirs, merge.Both} {
			res := merged(t, b, base, x, y, merge.Options{Take: take, Suffix: ".fork"})
			want, conflicts := modelMerge(base, x, y, take)
			var paths []string
			for _, c := range res.Conflicts {
				paths = append(paths, c.Path)
			}
			if d := cmp.Diff(conflicts, paths); d != "" {
				t.Errorf("conflicts (-want +got):\n%s", d)
			}
			if len(conflicts) == 0 {
				clean++
			}
			if take != merge.None || len(conflicts) == 0 {
				equal(t, b, string(take), res.Commit, want)
			}
		}
	})
	if clean < 100 {
		t.Errorf("only %d merges were without conflicts", clean)
	}
}

// modelMerge merges trees in which a path is either a file or a directory on all sides, path by path.
func modelMerge(base, ours, theirs plain, take merge.Take) (plain, []string) {
	result, conflicts := plain{}, []string(nil)
	paths := map[string]bool{}
	for _, p := range []plain{base, ours, theirs} {
		for at := range p {
			paths[at] = true
		}
	}
	deepest := slices.SortedFunc(maps.Keys(paths), func(a, b string) int { return len(b) - len(a) })
	for _, at := range deepest {
		b, inB := base[at]
		o, inO := ours[at]
		t, inT := theirs[at]
		v, there, clash := three(b, inB, o, inO, t, inT)
		isDir := b.dir || o.dir || t.dir
		if isDir && inO != inT {
			kept, inOurs := o, true
			if inT {
				kept, inOurs = t, false
			}
			v, there = kept, true
			hasChild := slices.ContainsFunc(slices.Collect(maps.Keys(result)), func(p string) bool { return p != "" && dirOf(p) == at })
			clash = inB && !hasChild && b.mode != kept.mode
			if inB && !hasChild && !clash {
				there = false
			}
			if clash {
				there = take == merge.Both || (take == merge.Theirs) != inOurs
			}
		}
		if clash {
			conflicts = append(conflicts, at)
		}
		if clash && !isDir {
			v, there = o, inO
			switch {
			case take == merge.Theirs, take == merge.Both && !inO:
				v, there = t, inT
			case take == merge.Both && inT:
				result[at+".fork"] = t
			}
		}
		if clash && isDir && inO && inT {
			v.mode = o.mode
			if take == merge.Theirs {
				v.mode = t.mode
			}
		}
		if there {
			result[at] = v
		}
	}
	slices.Sort(conflicts)
	return result, conflicts
}

// three merges one path by fields.
func three(b value, inB bool, o value, inO bool, t value, inT bool) (v value, there, clash bool) {
	switch {
	case inO == inT && o == t:
		return o, inO, false
	case inB == inO && b == o:
		return t, inT, false
	case inB == inT && b == t:
		return o, inO, false
	case !inO || !inT:
		return o, inO, true
	}
	v = o
	if o.data != t.data {
		if inB && b.data == o.data {
			v.data = t.data
		} else if !inB || b.data != t.data {
			clash = true
		}
	}
	if o.mode != t.mode {
		if inB && b.mode == o.mode {
			v.mode = t.mode
		} else if !inB || b.mode != t.mode {
			clash = true
		}
	}
	if inB && b.sec == o.sec {
		v.sec = t.sec
	} else if !inB || b.sec != t.sec {
		v.sec = max(o.sec, t.sec)
	}
	return v, true, clash
}
