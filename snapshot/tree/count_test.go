package tree_test

import (
	"errors"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// tower is a DAG of as many directories as levels, each naming the one below it as often as wide.
func tower(t *testing.T, levels, wide int) *tree.Snapshot {
	t.Helper()
	ctx, b := t.Context(), blockstest.NewMemory()
	dir, err := unixfs.WriteDir(ctx, b, nil)
	for range levels {
		if err != nil {
			t.Fatal(err)
		}
		var entries []unixfs.Child
		for i := range wide {
			dir.Name = string(rune('a' + i))
			entries = append(entries, dir)
		}
		dir, err = unixfs.WriteDir(ctx, b, entries)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.Open(ctx, b, dir.CID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASizeIsFoundOutWithoutAWalk(t *testing.T) {
	for _, c := range []struct {
		name         string
		levels, wide int
		limits       tree.Limits
		fits         bool
	}{
		{"empty", 0, 0, tree.Limits{}, true},
		{"within", 10, 2, tree.Limits{}, true},
		{"as many entries as the limit", 3, 2, tree.Limits{MaxEntries: 14}, true},
		{"one entry more", 3, 2, tree.Limits{MaxEntries: 13}, false},
		{"exponential", 300, 2, tree.Limits{}, false},
		{"as deep as the limit", 7, 1, tree.Limits{MaxDepth: 7}, true},
		{"one level deeper", 8, 1, tree.Limits{MaxDepth: 7}, false},
	} {
		s := tower(t, c.levels, c.wide)
		err := s.CheckSize(t.Context(), "", c.limits)
		if c.fits && err != nil || !c.fits && !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.levels > 100 {
			continue
		}
		for _, werr := range s.Walk(t.Context(), "", c.limits) {
			if err == nil && werr != nil {
				t.Errorf("%s: checked, but a walk says %v", c.name, werr)
			}
		}
	}
}
