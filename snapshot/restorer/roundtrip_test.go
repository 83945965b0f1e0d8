package restorer_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

// imported is a directory as a snapshot.
func imported(t *testing.T, b snapshot.Blocks, dir string) *tree.Snapshot {
	t.Helper()
	r, err := importer.Import(ctx, b, dir, importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.Open(ctx, b, tt.CommitOf(t, b, r.Commit.Tree, r.Commit.Meta))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sameSnapshot(t *testing.T, a, b *tree.Snapshot) {
	t.Helper()
	if a.Commit.Tree == b.Commit.Tree && a.Commit.Meta == b.Commit.Meta {
		return
	}
	for c, err := range diff.Diff(ctx, a, b, tree.Limits{}) {
		t.Errorf("%s %q %v %v", c.Kind, c.Path, c.Fields, err)
	}
	t.Errorf("trees %s and %s, sidecars %s and %s", a.Commit.Tree, b.Commit.Tree, a.Commit.Meta, b.Commit.Meta)
}

func TestWhatIsRestoredFromAStoreImportsToTheSameCIDs(t *testing.T) {
	st, err := store.Open(filepath.Join(tempDir(t), "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	root := unprivileged()
	if os.Getuid() != 0 { // its owner cannot read it
		delete(root.Children, "secret")
	}
	root.Children["huge"] = tt.File(noise(5, 3<<20+17))
	first := tempDir(t)
	restore(t, open(t, st, root, hardlinks...), "", first, options{})
	s := imported(t, st, first)

	second := older(t)
	restore(t, s, "", second, options{Delete: true})
	sameSnapshot(t, s, imported(t, st, second))

	if err := poke(filepath.Join(second, "huge"), 2<<20); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for c, err := range diff.Diff(ctx, s, imported(t, diff.NewOverlay(st), second), tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, c.Path)
	}
	if !slices.Equal(paths, []string{"huge"}) {
		t.Errorf("the diff with the directory is in %q", paths)
	}
	restore(t, s, "", second, options{})
	sameSnapshot(t, s, imported(t, st, second))
}
