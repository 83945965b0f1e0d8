package diff_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

var ctx = context.Background()

func open(t *testing.T, b snapshot.Blocks, c cid.Cid) *tree.Snapshot {
	t.Helper()
	s, err := tree.Open(ctx, b, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func changes(t *testing.T, a, b *tree.Snapshot) []diff.Change {
	t.Helper()
	var all []diff.Change
	for c, err := range diff.Diff(ctx, a, b, tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func lines(cs []diff.Change) []string {
	var ls []string
	for _, c := range cs {
		ls = append(ls, fmt.Sprintf("%s %q %v", c.Kind, c.Path, c.Fields))
	}
	return ls
}

func with(f func(*meta.Attr)) func(tt.Node) tt.Node {
	return func(n tt.Node) tt.Node { return n.With(f) }
}

func TestEachKindOfChangeIsTold(t *testing.T) {
	base := func() map[string]tt.Node {
		return map[string]tt.Node{
			"d": tt.Dir(map[string]tt.Node{"x": tt.File("1"), "y": tt.File("2")}), "d-": tt.File(""),
			"f": tt.File("content"), "l": tt.Symlink("f"), "null": tt.Special(meta.CharDevice, 1, 3),
		}
	}
	for name, tc := range map[string]struct {
		change func(m map[string]tt.Node)
		want   []string
	}{
		"nothing": {func(map[string]tt.Node) {}, nil},
		"added":   {func(m map[string]tt.Node) { m["e"] = tt.Dir(map[string]tt.Node{"n": tt.File("")}) }, []string{`added "e" []`, `added "e/n" []`}},
		"removed": {func(m map[string]tt.Node) { delete(m, "d") }, []string{`removed "d" []`, `removed "d/x" []`, `removed "d/y" []`}},
		"content": {func(m map[string]tt.Node) { m["f"] = tt.File("other") }, []string{`content "f" []`}},
		"target":  {func(m map[string]tt.Node) { m["l"] = tt.Symlink("d") }, []string{`content "l" []`}},
		"device":  {func(m map[string]tt.Node) { m["null"] = tt.Special(meta.CharDevice, 1, 5) }, []string{`content "null" []`}},
		"type to dir": {func(m map[string]tt.Node) { m["f"] = tt.Dir(map[string]tt.Node{"n": tt.File("")}) },
			[]string{`type "f" [mode]`, `added "f/n" []`}},
		"type to file": {func(m map[string]tt.Node) { m["d"] = tt.File("") },
			[]string{`type "d" [mode]`, `removed "d/x" []`, `removed "d/y" []`}},
		"metadata": {func(m map[string]tt.Node) {
			m["d"] = with(func(a *meta.Attr) { a.Mode, a.UID = 0o700, 7 })(m["d"])
			m["f"] = with(func(a *meta.Attr) { a.Nsec++; a.Sparse = true })(m["f"])
			m["l"] = with(func(a *meta.Attr) { a.Xattrs = []meta.Xattr{{Name: "trusted.x", Value: []byte("1")}} })(m["l"])
		}, []string{`metadata "d" [mode owner]`, `metadata "f" [mtime sparse]`, `metadata "l" [xattrs]`}},
		"a sibling that sorts between a directory and its entries": {func(m map[string]tt.Node) {
			m["d"].Children["x"], m["d-"] = tt.File("3"), tt.File("4")
		}, []string{`content "d/x" []`, `content "d-" []`}},
	} {
		t.Run(name, func(t *testing.T) {
			b := tt.NewMemory()
			after := base()
			tc.change(after)
			cs := changes(t, open(t, b, tt.Commit(t, b, tt.Dir(base()))), open(t, b, tt.Commit(t, b, tt.Dir(after))))
			if d := cmp.Diff(tc.want, lines(cs)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestHardlinksAreMetadataAlsoInEqualTrees(t *testing.T) {
	b := tt.NewMemory()
	root := tt.Dir(map[string]tt.Node{
		"p": tt.Dir(map[string]tt.Node{"q": tt.Dir(map[string]tt.Node{"1": tt.File("x"), "2": tt.File("x"), "3": tt.File("x")})}),
		"z": tt.Dir(map[string]tt.Node{"same": tt.File("x")}),
	})
	separate := open(t, b, tt.Commit(t, b, root))
	joined := open(t, b, tt.Commit(t, b, root, meta.Hardlink{Path: "p/q/3", Leader: "p/q/1"}))
	other := open(t, b, tt.Commit(t, b, root, meta.Hardlink{Path: "p/q/3", Leader: "p/q/2"}, meta.Hardlink{Path: "z/same", Leader: "p/q/2"}))
	for _, tc := range []struct {
		a, b *tree.Snapshot
		want []string
	}{
		{separate, joined, []string{`metadata "p/q/3" [hardlink]`}},
		{joined, separate, []string{`metadata "p/q/3" [hardlink]`}},
		{joined, other, []string{`metadata "p/q/3" [hardlink]`, `metadata "z/same" [hardlink]`}},
		{other, other, nil},
	} {
		if d := cmp.Diff(tc.want, lines(changes(t, tc.a, tc.b))); d != "" {
			t.Error(d)
		}
	}
}

func TestACommitAndAForeignTreeDifferInWhatATreeHolds(t *testing.T) {
	b := tt.NewMemory()
	root := map[string]tt.Node{"f": tt.File("1").With(func(a *meta.Attr) { a.Mode = 0o4700 }), "fifo": tt.Special(meta.FIFO, 0, 0)}
	commit := open(t, b, tt.Commit(t, b, tt.Dir(root)))
	if cs := changes(t, commit, open(t, b, commit.Commit.Tree)); len(cs) != 0 {
		t.Error(lines(cs))
	}
	root["f"] = tt.File("2")
	foreign := open(t, b, tt.Tree(t, b, tt.Dir(root)))
	if d := cmp.Diff([]string{`content "f" []`}, lines(changes(t, foreign, commit))); d != "" {
		t.Error(d)
	}
}

func TestEqualSubtreesAreNotRead(t *testing.T) {
	b := tt.NewMemory()
	big := map[string]tt.Node{}
	for i := range 300 {
		big[fmt.Sprint(i)] = tt.Dir(map[string]tt.Node{"f": tt.File(fmt.Sprint(i))})
	}
	root := map[string]tt.Node{"big": tt.Dir(big), "f": tt.File("1")}
	x := open(t, b, tt.Commit(t, b, tt.Dir(root)))
	root["f"] = tt.File("2")
	y := open(t, b, tt.Commit(t, b, tt.Dir(root)))
	b.Gets()
	if cs := changes(t, x, y); len(cs) != 1 {
		t.Error(lines(cs))
	}
	if n := len(b.Gets()); n > 6 {
		t.Errorf("read %d blocks", n)
	}
}

func TestAMissingDirectoryIsAnErrorThatNamesIt(t *testing.T) {
	b := tt.NewMemory()
	sub := tt.Dir(map[string]tt.Node{"f": tt.File("1")})
	x := open(t, b, tt.Commit(t, b, tt.Dir(map[string]tt.Node{"sub": sub})))
	y := open(t, b, tt.Commit(t, b, tt.Dir(map[string]tt.Node{"sub": tt.Dir(nil)})))
	b.Lose(tt.Tree(t, b, sub))
	var last error
	for _, err := range diff.Diff(ctx, x, y, tree.Limits{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "sub") {
		t.Error(last)
	}
}

// model is a snapshot as a map; the CIDs of directories are left out, as they follow from the rest.
type model map[string]object

type object struct {
	Attr   string
	CID    string
	Target string
	Leader string
}

func objectOf(t *testing.T, s *tree.Snapshot, path string, e tree.Entry) object {
	t.Helper()
	leader, _, err := s.Leader(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	cid := e.CID.String()
	e.Entries, e.Below = meta.Attr{}.Entries, 0
	if e.IsDir() {
		cid = ""
	}
	return object{Attr: fmt.Sprintf("%+v", e.Attr), CID: cid, Target: e.Target, Leader: leader}
}

func modelOf(t *testing.T, s *tree.Snapshot) model {
	t.Helper()
	m := model{}
	for e, err := range s.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		m[e.Path] = objectOf(t, s, e.Path, e.Entry)
	}
	return m
}

// apply makes only the changes that are told: a field that is not named stays.
func apply(t *testing.T, m model, cs []diff.Change, after *tree.Snapshot) model {
	t.Helper()
	m = maps.Clone(m)
	for _, c := range cs {
		_, there := m[c.Path]
		if there == (c.Kind == diff.Added) {
			t.Fatalf("%s %q, but it is there: %t", c.Kind, c.Path, there)
		}
		if c.Kind == diff.Removed {
			delete(m, c.Path)
			continue
		}
		o := objectOf(t, after, c.Path, *c.After)
		if c.Kind != diff.Added && !slices.Contains(c.Fields, diff.Hardlink) {
			o.Leader = m[c.Path].Leader
		}
		m[c.Path] = o
	}
	return m
}

func TestTheChangesMakeOneOfTheOther(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := tt.NewMemory()
		before := randomDir(rng, 3)
		after := mutate(rng, before, 3, rng.IntN(4))
		x := open(t, b, tt.Commit(t, b, before, randomLinks(rng, before)...))
		y := open(t, b, tt.Commit(t, b, after, randomLinks(rng, after)...))
		cs := changes(t, x, y)
		if same := x.Commit.Tree == y.Commit.Tree && x.Commit.Meta == y.Commit.Meta; same != (len(cs) == 0) {
			t.Fatalf("seed %d: CIDs equal: %t, changes: %v", seed, same, lines(cs))
		}
		if d := cmp.Diff(modelOf(t, y), apply(t, modelOf(t, x), cs, y)); d != "" {
			t.Fatalf("seed %d: want (-), applied (+):\n%s", seed, d)
		}
	}
}

func randomNode(rng *rand.Rand, depth int) tt.Node {
	n := tt.File(strings.Repeat("x", rng.IntN(3)))
	switch rng.IntN(6) {
	case 0, 1:
		if depth > 0 {
			n = randomDir(rng, depth-1)
		}
	case 2:
		n = tt.Symlink(fmt.Sprint("t", rng.IntN(2)))
	case 3:
		n = tt.Special(meta.CharDevice, 1, uint32(rng.IntN(3)))
	}
	return n.With(func(a *meta.Attr) { a.UID, a.Nsec = uint32(rng.IntN(2)), uint32(rng.IntN(2)) })
}

func randomDir(rng *rand.Rand, depth int) tt.Node {
	children := map[string]tt.Node{}
	for range rng.IntN(5) {
		children[string(rune('a'+rng.IntN(6)))+[]string{"", "-", "0"}[rng.IntN(3)]] = randomNode(rng, depth)
	}
	return tt.Dir(children)
}

// mutate returns a copy with some random changes.
func mutate(rng *rand.Rand, n tt.Node, depth, times int) tt.Node {
	n.Children = maps.Clone(n.Children)
	for range times {
		names := slices.Sorted(maps.Keys(n.Children))
		if len(names) == 0 || rng.IntN(4) == 0 {
			n.Children[string(rune('a'+rng.IntN(6)))] = randomNode(rng, depth-1)
			continue
		}
		name := names[rng.IntN(len(names))]
		switch child := n.Children[name]; {
		case child.Attr.Type == meta.Dir && rng.IntN(3) > 0:
			n.Children[name] = mutate(rng, child, depth-1, 1+rng.IntN(2))
		case rng.IntN(3) == 0:
			delete(n.Children, name)
		case rng.IntN(2) == 0:
			n.Children[name] = child.With(func(a *meta.Attr) { a.Mode ^= 0o022 })
		default:
			n.Children[name] = randomNode(rng, depth-1)
		}
	}
	return n
}

// randomLinks makes one group of all files of one content, sometimes.
func randomLinks(rng *rand.Rand, root tt.Node) []meta.Hardlink {
	var paths []string
	var walk func(path string, n tt.Node)
	walk = func(path string, n tt.Node) {
		for name, child := range n.Children {
			if at := tree.Join(path, name); child.Attr.Type == meta.Dir {
				walk(at, child)
			} else if child.Attr.Type == meta.File && len(child.Data) == 1 {
				paths = append(paths, at)
			}
		}
	}
	walk("", root)
	slices.Sort(paths)
	var links []meta.Hardlink
	if len(paths) > 1 && rng.IntN(2) == 0 {
		for _, p := range paths[1:] {
			links = append(links, meta.Hardlink{Path: p, Leader: paths[0]})
		}
	}
	return links
}
