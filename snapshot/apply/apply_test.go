package apply_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes files, by path: those of the same content are names of one file.
func fill(t *testing.T, dir string, files ...string) {
	t.Helper()
	first := map[string]string{}
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if other, ok := first[files[i+1]]; ok {
			must(t, os.Link(other, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(files[i+1]), 0o644))
		first[files[i+1]] = path
	}
}

func imported(t *testing.T, b snapshot.Blocks, dir string) *tree.Snapshot {
	t.Helper()
	r, err := importer.Import(t.Context(), b, dir, importer.Options{})
	must(t, err)
	s, err := tree.OpenCommit(t.Context(), b, r.Commit)
	must(t, err)
	return s
}

// stored returns the entry of a directory, and the directory.
func stored(t *testing.T, s *tree.Snapshot, dir, name string) (tree.Stored, tree.Entry) {
	t.Helper()
	d, err := s.Lookup(t.Context(), dir)
	must(t, err)
	for st, err := range s.Stored(t.Context(), d) {
		must(t, err)
		if st.Name == name {
			return st, d
		}
	}
	t.Fatalf("%s has no %s", dir, name)
	return tree.Stored{}, d
}

// TestStatisticsAndHardlinksFollowTheChanges moves a directory out of one that is removed, takes away one of two
// names of a file and all names of another, and adds a file of two names.
func TestStatisticsAndHardlinksFollowTheChanges(t *testing.T) {
	ctx, b, dir := t.Context(), blockstest.NewMemory(), t.TempDir()
	fill(t, dir, "gone/a", "two names", "gone/moved/b", "two names", "gone/moved/c", "single", "gone/d", "both gone", "gone/e", "both gone",
		"kept/f", "f")
	base := imported(t, b, dir)
	w := apply.New(b, base)
	w.Drop("gone")
	w.Move("gone/moved", "here")
	moved, _ := stored(t, base, "gone", "moved")
	kept, top := stored(t, base, "", "kept")
	here, err := w.Keep(ctx, moved)
	must(t, err)
	here.Child.Name, here.Row.Name = "here", "here"
	same, err := w.Keep(ctx, kept)
	must(t, err)
	f, _ := stored(t, base, "kept", "f")
	var added []apply.Entry
	for _, name := range []string{"x", "y"} {
		e := apply.Entry{Child: f.Child, Row: f.Row}
		e.Child.Name, e.Row.Name = name, name
		e, err := w.Put(ctx, name, e, 1, "new")
		must(t, err)
		added = append(added, e)
	}
	root, err := w.Dir(ctx, "", top.Attr, append([]apply.Entry{here, same}, added...), false)
	must(t, err)
	got, err := w.Commit(ctx, root)
	must(t, err)

	want := snapshot.Stats{Files: 5, Dirs: 3, Bytes: uint64(len("two names") + len("single") + len("f") + 1)}
	if got.Stats != want {
		t.Errorf("statistics %+v, want %+v", got.Stats, want)
	}
	s, err := tree.OpenCommit(ctx, b, got)
	must(t, err)
	var links []meta.Hardlink
	for h, err := range s.Hardlinks(ctx) {
		must(t, err)
		links = append(links, h)
	}
	if len(links) != 1 || links[0] != (meta.Hardlink{Path: "y", Leader: "x"}) {
		t.Errorf("hardlinks %q", links)
	}
}

func TestNothingChangedIsTheBase(t *testing.T) {
	b, dir := blockstest.NewMemory(), t.TempDir()
	fill(t, dir, "a", "1", "d/b", "2", "d/c", "2", "d/e/f", "3")
	base := imported(t, b, dir)
	got, err := apply.Complete(t.Context(), b, base)
	must(t, err)
	if got.Tree != base.Commit.Tree || got.Meta != base.Commit.Meta || got.Stats != base.Commit.Stats {
		t.Errorf("tree %s and sidecar %s of a base of %s and %s", got.Tree, got.Meta, base.Commit.Tree, base.Commit.Meta)
	}
}
