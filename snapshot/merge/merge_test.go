package merge_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/merge"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/tree/treetest"
)

// files is a directory: content by path. What begins with "=" is another name of the file at that path.
type files map[string]string

// snapshotOf imports a directory with such files. All times are the same.
func snapshotOf(t *testing.T, b snapshot.Blocks, fs files) *tree.Snapshot {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	for at, content := range fs {
		must(os.MkdirAll(filepath.Dir(filepath.Join(dir, at)), 0o755))
		if !strings.HasPrefix(content, "=") {
			must(os.WriteFile(filepath.Join(dir, at), []byte(content), 0o644))
		}
	}
	for at, content := range fs {
		if first, is := strings.CutPrefix(content, "="); is {
			must(os.Link(filepath.Join(dir, first), filepath.Join(dir, at)))
		}
	}
	must(filepath.WalkDir(dir, func(at string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(at, time.Unix(1, 0), time.Unix(1, 0)))
	}))
	r, err := importer.Import(t.Context(), b, dir, importer.Options{})
	must(err)
	s, err := tree.OpenCommit(t.Context(), b, r.Commit)
	must(err)
	return s
}

func TestHardlinksAndDirectoriesAreMergedSoundly(t *testing.T) {
	for what, tc := range map[string]struct {
		base, ours, theirs files
		take               merge.Take
		want               files
		conflicts          []merge.Conflict
	}{
		"they gave a file another name": {
			base: files{"a": "1"}, ours: files{"a": "1", "o": "o"}, theirs: files{"a": "1", "d/b": "=a"},
			want: files{"a": "1", "d/b": "=a", "o": "o"},
		},
		"we gave a file another name": {
			base: files{"a": "1"}, ours: files{"a": "1", "d/b": "=a"}, theirs: files{"a": "1", "o": "o"},
			want: files{"a": "1", "d/b": "=a", "o": "o"},
		},
		"they wrote to all names": {
			base: files{"a": "1", "d/b": "=a"}, ours: files{"a": "1", "d/b": "=a", "o": "o"}, theirs: files{"a": "2", "d/b": "=a"},
			want: files{"a": "2", "d/b": "=a", "o": "o"},
		},
		"they parted names": {
			base: files{"d/a": "1", "d/b": "=d/a"}, ours: files{"d/a": "1", "d/b": "=d/a", "o": "o"}, theirs: files{"d/a": "1", "d/b": "1"},
			want: files{"d/a": "1", "d/b": "1", "o": "o"},
		},
		"they removed the first name": {
			base: files{"a": "1", "b": "=a", "c": "=a"}, ours: files{"a": "1", "b": "=a", "c": "=a", "o": "o"}, theirs: files{"b": "1", "c": "=b"},
			want: files{"b": "1", "c": "=b", "o": "o"},
		},
		"each removed another name": {
			base: files{"a": "1", "b": "=a"}, ours: files{"a": "1", "o": "o"}, theirs: files{"b": "1"}, take: merge.Both,
			want:      files{"a": "1", "b": "1", "o": "o"},
			conflicts: []merge.Conflict{{Path: "a", Theirs: diff.Removed}, {Path: "b", Ours: diff.Removed}},
		},
		"we wrote to it, they gave it another name": {
			base: files{"a": "1"}, ours: files{"a": "2", "o": "o"}, theirs: files{"a": "1", "b": "=a"}, take: merge.Theirs,
			want:      files{"a": "1", "b": "=a", "o": "o"},
			conflicts: []merge.Conflict{{Path: "a", Ours: diff.Content}, {Path: "b", Theirs: diff.Added}},
		},
		"both wrote to all names": {
			base: files{"d/a": "1", "b": "=d/a"}, ours: files{"d/a": "2", "b": "=d/a", "o": "o"}, theirs: files{"d/a": "3", "b": "=d/a"}, take: merge.Both,
			want:      files{"d/a": "2", "b": "=d/a", "o": "o", "d/a.fork": "3", "b.fork": "=d/a.fork"},
			conflicts: []merge.Conflict{{Path: "b", Ours: diff.Content, Theirs: diff.Content}, {Path: "d/a", Ours: diff.Content, Theirs: diff.Content}},
		},
		"they removed a directory of which we removed a part": {
			base: files{"d/a": "1", "d/b": "2", "d/e/f": "3", "o": "o"}, ours: files{"d/a": "1", "d/e/f": "3", "o": "2"}, theirs: files{"o": "o"},
			want: files{"o": "2"},
		},
		"they removed a directory that we put something in": {
			base: files{"d/a": "1", "d/b": "2"}, ours: files{"d/a": "1", "d/b": "2", "d/c": "3"}, theirs: files{},
			want: files{"d/c": "3"},
		},
		"a directory with one of the names became a file": {
			base: files{"a": "1", "d/b": "=a", "d/c": "c"}, ours: files{"a": "1", "d": "file"}, theirs: files{"a": "1", "d/b": "=a", "d/c": "c", "t": "t"},
			want: files{"a": "1", "d": "file", "t": "t"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := blockstest.NewMemory()
			ours := snapshotOf(t, b, tc.ours)
			res, err := merge.Merge(t.Context(), b, snapshotOf(t, b, tc.base), ours, snapshotOf(t, b, tc.theirs), merge.Options{Take: tc.take, Suffix: ".fork"})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.conflicts, res.Conflicts); d != "" {
				t.Errorf("conflicts (-want +got):\n%s", d)
			}
			same(t, b, res.Commit, snapshotOf(t, b, tc.want).Commit)
		})
	}
}

// same compares with what an import gave.
func same(t *testing.T, b snapshot.Blocks, got, want *snapshot.Commit) {
	t.Helper()
	if got.Stats != want.Stats {
		t.Errorf("statistics %+v, want %+v", got.Stats, want.Stats)
	}
	if got.Tree == want.Tree && got.Meta == want.Meta {
		return
	}
	x, err := tree.OpenCommit(t.Context(), b, want)
	if err != nil {
		t.Fatal(err)
	}
	y, err := tree.OpenCommit(t.Context(), b, got)
	if err != nil {
		t.Fatal(err)
	}
	t.Error("the result is not what an import gives")
	for c, err := range diff.Diff(t.Context(), x, y, tree.Limits{}) {
		t.Errorf("%s is %s %v, %v", c.Path, c.Kind, c.Fields, err)
	}
}

func TestWhatIsPutBesideHasANameOfItsOwn(t *testing.T) {
	b := blockstest.NewMemory()
	long := strings.Repeat("ä", 127) // 254 bytes
	base := files{"o": "o"}
	ours := snapshotOf(t, b, files{"o": "o", "f": "1", "f.fork": "taken", long: "1", "d": "file"})
	theirs := snapshotOf(t, b, files{"o": "o", "f": "2", "f.fork-2": "taken too", long: "2", "d/x": "x", "d/y": "=d/x"})
	res, err := merge.Merge(t.Context(), b, snapshotOf(t, b, base), ours, theirs, merge.Options{Take: merge.Both, Suffix: ".fork"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, b, res.Commit, snapshotOf(t, b, files{
		"o": "o", "f": "1", "f.fork": "taken", "f.fork-2": "taken too", "f.fork-3": "2", long: "1", strings.Repeat("ä", 125) + ".fork": "2",
		"d": "file", "d.fork/x": "x", "d.fork/y": "=d.fork/x",
	}).Commit)
}

func TestNothingInCommonIsAllAdded(t *testing.T) {
	b := blockstest.NewMemory()
	ours, theirs := snapshotOf(t, b, files{"a": "1", "b": "2", "o": "o"}), snapshotOf(t, b, files{"a": "1", "b": "3", "t": "t"})
	res, err := merge.Merge(t.Context(), b, nil, ours, theirs, merge.Options{Take: merge.Theirs})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]merge.Conflict{{Path: "b", Ours: diff.Added, Theirs: diff.Added}}, res.Conflicts); d != "" {
		t.Error(d)
	}
	same(t, b, res.Commit, snapshotOf(t, b, files{"a": "1", "b": "3", "o": "o", "t": "t"}).Commit)
}

func TestAttributesAreMergedEachByItself(t *testing.T) {
	b := blockstest.NewMemory()
	big := meta.Xattr{Name: "user.x", Value: []byte(strings.Repeat("x", 2000))}
	commit := func(change func(*meta.Attr), data string, more map[string]treetest.Node) *tree.Snapshot {
		nodes := map[string]treetest.Node{"f": treetest.File(data).With(change), "p": treetest.Special(meta.CharDevice, 1, 2).With(change)}
		for name, n := range more {
			nodes[name] = n
		}
		return open(t, b, treetest.Commit(t, b, treetest.Dir(nodes)))
	}
	none := func(*meta.Attr) {}
	base := commit(none, "1", nil)
	ours := commit(func(a *meta.Attr) { a.Mode, a.Xattrs, a.Sec = 0o600, []meta.Xattr{big}, 5 }, "1", nil)
	theirs := commit(func(a *meta.Attr) { a.UID, a.GID, a.Sec = 7, 8, 6 }, "2", map[string]treetest.Node{"s": treetest.Symlink("f")})
	want := commit(func(a *meta.Attr) {
		a.Mode, a.Xattrs, a.UID, a.GID, a.Sec = 0o600, []meta.Xattr{big}, 7, 8, 6
		if a.Type == meta.CharDevice {
			a.Major, a.Minor = 1, 2
		}
	}, "2", map[string]treetest.Node{"s": treetest.Symlink("f")})
	for _, sides := range [][2]*tree.Snapshot{{ours, theirs}, {theirs, ours}} {
		res, err := merge.Merge(t.Context(), b, base, sides[0], sides[1], merge.Options{})
		if err != nil || len(res.Conflicts) > 0 {
			t.Fatal(res.Conflicts, err)
		}
		if res.Commit.Tree != want.Commit.Tree || res.Commit.Meta != want.Commit.Meta || res.Commit.NoXattrs {
			t.Errorf("attributes: %+v, want %+v", res.Commit, want.Commit)
		}
	}
}

func TestWhatIsTheSameOnBothSidesIsNotRead(t *testing.T) {
	b := treetest.NewMemory()
	dir := func(data string) treetest.Node {
		return treetest.Dir(map[string]treetest.Node{"f": treetest.File(data)})
	}
	big := treetest.Dir(map[string]treetest.Node{"deep": dir("deep"), "more": dir("more")})
	commit := func(a, c string) *tree.Snapshot {
		return open(t, b, treetest.Commit(t, b, treetest.Dir(map[string]treetest.Node{"a": dir(a), "c": dir(c), "same": big})))
	}
	base, ours, theirs := commit("1", "1"), commit("2", "1"), commit("1", "2")
	b.Lose(treetest.Tree(t, b, big))
	res, err := merge.Merge(t.Context(), b, base, ours, theirs, merge.Options{})
	if err != nil || len(res.Conflicts) > 0 {
		t.Fatal(res.Conflicts, err)
	}
	b.Find(treetest.Tree(t, b, big))
	if want := commit("2", "2").Commit; res.Commit.Tree != want.Tree || res.Commit.Meta != want.Meta {
		t.Error("the result is not both sides' changes")
	}
}

func TestATreeWithoutASidecarIsMergedAsOneWithTheDefaults(t *testing.T) {
	b := blockstest.NewMemory()
	plainTree := func(children map[string]treetest.Node) *tree.Snapshot {
		return open(t, b, treetest.Tree(t, b, treetest.Dir(children)))
	}
	f := treetest.File
	base := plainTree(map[string]treetest.Node{"a": f("1"), "b": f("1")})
	ours := plainTree(map[string]treetest.Node{"a": f("2"), "b": f("1")})
	theirs := plainTree(map[string]treetest.Node{"a": f("1"), "b": f("2")})
	res, err := merge.Merge(t.Context(), b, base, ours, theirs, merge.Options{})
	if err != nil || len(res.Conflicts) > 0 {
		t.Fatal(res.Conflicts, err)
	}
	if want := treetest.Tree(t, b, treetest.Dir(map[string]treetest.Node{"a": f("2"), "b": f("2")})); res.Commit.Tree != want {
		t.Errorf("tree %s, want %s", res.Commit.Tree, want)
	}
}
