package store_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

// Run with -golden once, when the state's version is raised, to write testdata/vN anew; those of earlier versions
// stay as they are.
var writeGolden = flag.Bool("golden", false, "write the golden directory of the current version")

func goldenBlocks() (indexed, tail []blocks.Block) {
	return append(blockstest.Random(1, 20, 300), blockstest.Random(2, 1, 70<<10)...), blockstest.Random(3, 3, 200)
}

func TestStatesOfAllVersionsOpen(t *testing.T) {
	if *writeGolden {
		goldenV1(t, "testdata/v1")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/v1")); err != nil {
		t.Fatal(err)
	}
	indexed, tail := goldenBlocks()
	s := open(t, dir, store.Options{})
	wantAll(t, s, indexed)
	wantAll(t, s, tail)
	wantCount(t, s, len(indexed)+len(tail)+2)
	if v, err := s.Record(t.Context(), "pin/golden"); err != nil || string(v) != "pinned" {
		t.Errorf("record %q, %v", v, err)
	}
	x := session(t, s)
	wantStat(t, x, "dir", "value of dir")
	root, _ := rooted(t, x, 5)
	wantAdopted(t, x, true, root)
	finish(t, begin(t, s), indexed...)
	wantAll(t, s, indexed)
}

// goldenV1 leaves a store as a killed process does, so that the frames are read as well as the index.
func goldenV1(t *testing.T, to string) {
	t.Helper()
	indexed, tail := goldenBlocks()
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	x := session(t, s)
	put(t, x, indexed...)
	root, _ := rooted(t, x, 5)
	saved(t, x, "dir", root)
	if err := s.SetRecords(t.Context(), map[string][]byte{"pin/golden": []byte("pinned")}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	put(t, s, tail...)
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ballast", "lock"} {
		if err := os.Remove(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
}
