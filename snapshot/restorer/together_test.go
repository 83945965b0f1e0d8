package restorer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/restorer"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
)

// manySmall is unprivileged with many small files in many directories.
func manySmall() tt.Node {
	root := unprivileged()
	for i := range 40 {
		files := map[string]tt.Node{}
		for j := range 30 {
			files[fmt.Sprint(j)] = tt.File(fmt.Sprint("file ", i, " ", j))
		}
		root.Children[fmt.Sprint("dir", i)] = tt.Dir(files)
	}
	return root
}

func TestBlocksGotTogetherMakeTheSameFiles(t *testing.T) {
	b := &tt.Together{Memory: tt.NewMemory()}
	s := open(t, b, manySmall(), hardlinks...)
	dst := tempDir(t)
	b.Requests.Store(0)
	restore(t, s, "", dst, options{})
	if n := b.Requests.Load(); n > 500 {
		t.Errorf("%d requests for 1200 small files", n)
	}
	equal(t, s, "", dst)

	dst = older(t)
	restore(t, s, "", dst, options{Delete: true})
	equal(t, s, "", dst)
	b.Gets()
	restore(t, s, "", dst, options{})
	gets := b.Gets()
	for _, data := range []string{"file 3 4", "odd name"} {
		if c := unixfs.Leaf([]byte(data)).Cid(); gets[c] > 0 {
			t.Errorf("the content of %q was got though it was there", data)
		}
	}
}

func TestABlockMissingAmongManyNamesItsFile(t *testing.T) {
	b := &tt.Together{Memory: tt.NewMemory()}
	s := open(t, b, manySmall(), hardlinks...)
	want := wanted(t, s, "")
	lost := unixfs.Leaf([]byte("file 3 4")).Cid()
	b.Lose(lost)
	dst := tempDir(t)
	_, err := restorer.Restore(ctx, s, "", dst, options{})
	if !errors.Is(err, snapshot.ErrNotFound) || !strings.Contains(err.Error(), `"dir3/4"`) || !strings.Contains(err.Error(), lost.String()) {
		t.Errorf("the error is %v", err)
	}
	wholeFiles(t, want, nil, dst)
	b.Find(lost)
	restore(t, s, "", dst, options{})
	equal(t, s, "", dst)
}
