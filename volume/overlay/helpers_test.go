package overlay_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume/overlay"
)

func open(t *testing.T, b snapshot.Blocks, c cid.Cid) *tree.Snapshot {
	t.Helper()
	s, err := tree.Open(t.Context(), b, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// merged fails unless the layers on the base are the wanted snapshot, to the last CID.
func merged(t *testing.T, b snapshot.Blocks, base, layers, want cid.Cid) {
	t.Helper()
	c, err := overlay.Merge(t.Context(), b, open(t, b, base), open(t, b, layers))
	if err != nil {
		t.Fatal(err)
	}
	wanted := open(t, b, want)
	if c.Tree == wanted.Commit.Tree && c.Meta == wanted.Commit.Meta {
		return
	}
	got := open(t, b, tt.CommitOf(t, b, c.Tree, c.Meta))
	t.Errorf("-want +merged:\n%s", cmp.Diff(listed(t, wanted), listed(t, got), cmp.Comparer(cid.Cid.Equals)))
}

type listing struct {
	Entries []tree.Located
	Links   []meta.Hardlink
}

func listed(t *testing.T, s *tree.Snapshot) (l listing) {
	t.Helper()
	for e, err := range s.Walk(t.Context(), "", tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		l.Entries = append(l.Entries, e)
	}
	for h, err := range s.Hardlinks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		l.Links = append(l.Links, h)
	}
	return l
}

// strip gives a node and all below it the attributes that a tree without a sidecar has.
func strip(n tt.Node) tt.Node {
	mode := map[meta.Type]uint16{meta.Dir: tree.DefaultDirMode, meta.File: tree.DefaultFileMode, meta.Symlink: tree.DefaultSymlinkMode}
	n.Attr = meta.Attr{Type: n.Attr.Type, Mode: mode[n.Attr.Type]}
	stripped := children{}
	for name, child := range n.Children {
		stripped[name] = strip(child)
	}
	n.Children = stripped
	return n
}
