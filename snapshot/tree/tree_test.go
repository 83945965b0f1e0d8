package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/ipld/merkledag"
	ft "github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
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

// describe is a line for each entry of a walk.
func describe(t *testing.T, s *tree.Snapshot, path string) []string {
	t.Helper()
	var lines []string
	for e, err := range s.Walk(ctx, path, tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%q %s %o size=%d target=%q meta=%t", e.Path, e.Type, e.Mode, e.Size, e.Target, e.HasMeta))
	}
	return lines
}

func example() tt.Node {
	mode := func(m uint16) func(*meta.Attr) { return func(a *meta.Attr) { a.Mode = m } }
	return tt.Dir(map[string]tt.Node{
		"a":    tt.Dir(map[string]tt.Node{"x": tt.File("deep"), "fifo": tt.Special(meta.FIFO, 0, 0)}).With(mode(0o2750)),
		"a-b":  tt.File("").With(mode(0o4755)),
		"link": tt.Symlink("a/x"),
		"null": tt.Special(meta.CharDevice, 1, 3),
		"\xff": tt.File("not UTF-8"),
	})
}

func TestACommitIsItsTreeAndItsSidecarMerged(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, tt.Commit(t, b, example()))
	want := []string{
		`"" dir 755 size=0 target="" meta=true`,
		`"a" dir 2750 size=0 target="" meta=true`,
		`"a/fifo" fifo 600 size=0 target="" meta=true`,
		`"a/x" file 644 size=4 target="" meta=true`,
		`"a-b" file 4755 size=0 target="" meta=true`,
		`"link" symlink 777 size=0 target="a/x" meta=true`,
		`"null" char 600 size=0 target="" meta=true`,
		`"\xff" file 644 size=9 target="" meta=true`,
	}
	if d := cmp.Diff(want, describe(t, s, "")); d != "" {
		t.Error(d)
	}
	if e, err := s.Lookup(ctx, "null"); err != nil || e.Major != 1 || e.Minor != 3 || e.Mtime().Unix() != tt.Mtime {
		t.Errorf("null: %+v, %v", e, err)
	}
	if s.Commit == nil || !s.HasSidecar() {
		t.Error("the commit is not told")
	}
}

func TestAForeignDirectoryHasDefaults(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, tt.Tree(t, b, example()))
	want := []string{
		`"" dir 755 size=0 target="" meta=false`,
		`"a" dir 755 size=0 target="" meta=false`,
		`"a/x" file 644 size=4 target="" meta=false`,
		`"a-b" file 644 size=0 target="" meta=false`,
		`"link" symlink 777 size=0 target="a/x" meta=false`,
		`"\xff" file 644 size=9 target="" meta=false`,
	}
	if d := cmp.Diff(want, describe(t, s, "")); d != "" {
		t.Error(d)
	}
	if s.Commit != nil || s.HasSidecar() {
		t.Error("a foreign DAG is taken for a commit")
	}
}

func TestAForeignFileIsASnapshotOfOneEntry(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, tt.Tree(t, b, tt.File("alone")))
	if d := cmp.Diff([]string{`"" file 644 size=5 target="" meta=false`}, describe(t, s, "")); d != "" {
		t.Error(d)
	}
	if _, err := s.Lookup(ctx, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an entry below a file: %v", err)
	}
}

func TestWhereTreeAndSidecarDisagreeTheTreeWins(t *testing.T) {
	b := tt.NewMemory()
	treeSide := tt.Tree(t, b, tt.Dir(map[string]tt.Node{
		"dir-in-tree":  tt.Dir(map[string]tt.Node{"f": tt.File("1")}),
		"fifo-in-meta": tt.File("22"),
		"no-row":       tt.File("333"),
	}))
	secret := func(a *meta.Attr) { a.Mode = 0o4711 }
	commit := tt.Commit(t, b, tt.Dir(map[string]tt.Node{
		"dir-in-tree":  tt.File("a file here").With(secret),
		"fifo-in-meta": tt.Special(meta.FIFO, 0, 0),
		"gone":         tt.File("only a row").With(secret),
		"gone-dir":     tt.Dir(map[string]tt.Node{"fifo": tt.Special(meta.FIFO, 0, 0)}),
		"only-meta":    tt.Special(meta.Socket, 0, 0),
	}))
	s := open(t, b, tt.CommitOf(t, b, treeSide, open(t, b, commit).Commit.Meta))
	want := []string{
		`"" dir 755 size=0 target="" meta=true`,
		`"dir-in-tree" dir 755 size=0 target="" meta=false`,
		`"dir-in-tree/f" file 644 size=1 target="" meta=false`,
		`"fifo-in-meta" file 644 size=2 target="" meta=false`,
		`"no-row" file 644 size=3 target="" meta=false`,
		`"only-meta" socket 600 size=0 target="" meta=true`,
	}
	if d := cmp.Diff(want, describe(t, s, "")); d != "" {
		t.Error(d)
	}
	for _, gone := range []string{"gone", "gone-dir", "gone-dir/fifo"} {
		if _, err := s.Lookup(ctx, gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
}

func TestLookupAgreesWithTheWalk(t *testing.T) {
	children := map[string]tt.Node{}
	for i := range 5000 {
		n := tt.File(strings.Repeat("x", i%7))
		if i%3 == 0 {
			n = tt.Special(meta.FIFO, 0, 0)
		}
		children[fmt.Sprintf("%s-%d", strings.Repeat("n", 80), i)] = n
	}
	b := tt.NewMemory()
	s := open(t, b, tt.Commit(t, b, tt.Dir(map[string]tt.Node{"d": tt.Dir(children), "e": example()})))
	seen := 0
	for e, err := range s.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen%50 != 0 && !strings.HasPrefix(e.Path, "e") {
			continue
		}
		got, err := s.Lookup(ctx, "/"+e.Path+"/")
		if d := cmp.Diff(e.Entry, got, cmp.Comparer(cid.Cid.Equals)); err != nil || d != "" {
			t.Fatalf("%q: %v %s", e.Path, err, d)
		}
	}
	if seen != 5000+2+8 {
		t.Errorf("walked %d entries", seen)
	}
}

func TestALookupInALargeDirectoryReadsAFractionOfIt(t *testing.T) {
	children := map[string]tt.Node{}
	for i := range 20000 {
		children[fmt.Sprintf("name-%d", i)] = tt.File("")
	}
	b := tt.NewMemory()
	s := open(t, b, tt.Commit(t, b, tt.Dir(children)))
	b.Gets()
	if _, err := s.Lookup(ctx, "name-777"); err != nil {
		t.Fatal(err)
	}
	if n := len(b.Gets()); n > 6 {
		t.Errorf("read %d blocks", n)
	}
}

func TestPathsThatNoDirectoryCanHoldDoNotExist(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, tt.Commit(t, b, example()))
	for _, path := range []string{"..", "a/../a", ".", "a/x/y", "nope", "a/nope", "a\x00", strings.Repeat("n", 256)} {
		if _, err := s.Lookup(ctx, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{"", "/", "//"} {
		if e, err := s.Lookup(ctx, path); err != nil || e.Name != "" {
			t.Errorf("%q: %v %v", path, e, err)
		}
	}
}

func TestOnlyRealHardlinksHaveALeader(t *testing.T) {
	b := tt.NewMemory()
	root := tt.Dir(map[string]tt.Node{"a": tt.File("1"), "b": tt.File("1"), "c": tt.File("other"), "d": tt.Dir(nil), "e": tt.Dir(nil)})
	s := open(t, b, tt.Commit(t, b, root,
		meta.Hardlink{Path: "b", Leader: "a"}, meta.Hardlink{Path: "c", Leader: "a"},
		meta.Hardlink{Path: "e", Leader: "d"}, meta.Hardlink{Path: "nowhere", Leader: "a"}))
	for path, want := range map[string]string{"a": "", "b": "a", "/b": "a", "c": "", "e": ""} {
		leader, ok, err := s.Leader(ctx, path)
		if err != nil || ok != (want != "") || ok && leader != want {
			t.Errorf("%s: %q %t %v", path, leader, ok, err)
		}
	}
}

// dagNode is a directory with links that no encoder of ours would write.
func dagNode(t *testing.T, b snapshot.Blocks, data []byte, links ...format.Link) cid.Cid {
	t.Helper()
	nd := merkledag.NodeWithData(data)
	if err := nd.SetCidBuilder(cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: mh.SHA2_256, MhLength: -1}); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if err := nd.AddRawLink(l.Name, &l); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(ctx, nd); err != nil {
		t.Fatal(err)
	}
	return nd.Cid()
}

func TestHostileNamesAreRefusedByTheNameOfTheirDirectory(t *testing.T) {
	for _, name := range []string{"", ".", "..", "/", "a/b", "/etc/passwd", "nul\x00", strings.Repeat("n", 300)} {
		b := tt.NewMemory()
		leaf := unixfs.Leaf([]byte("x"))
		if err := b.Put(ctx, leaf); err != nil {
			t.Fatal(err)
		}
		dir := dagNode(t, b, ft.FolderPBData(), format.Link{Name: name, Cid: leaf.Cid(), Size: 1})
		root := tt.Tree(t, b, tt.Dir(map[string]tt.Node{"sub": {Attr: meta.Attr{Type: meta.Dir}, Link: dir}}))
		var last error
		for _, err := range open(t, b, root).Walk(ctx, "", tree.Limits{}) {
			last = err
		}
		if !errors.Is(last, snapshot.ErrFormat) || !strings.Contains(last.Error(), `"sub"`) {
			t.Errorf("%q: %v", name, last)
		}
	}
}

func TestWalksAreBounded(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Tree(t, b, tt.Dir(nil))
	for range 40 { // 2^40 entries in 41 blocks
		c = tt.Tree(t, b, tt.Dir(map[string]tt.Node{
			"l": {Attr: meta.Attr{Type: meta.Dir}, Link: c}, "r": {Attr: meta.Attr{Type: meta.Dir}, Link: c}}))
	}
	s := open(t, b, c)
	for _, l := range []tree.Limits{{MaxEntries: 1000}, {MaxDepth: 10}} {
		var last error
		n := uint64(0)
		for _, err := range s.Walk(ctx, "", l) {
			last = err
			n++
		}
		if !errors.Is(last, snapshot.ErrFormat) || n > 2000 {
			t.Errorf("%+v: %d entries, %v", l, n, last)
		}
	}
}

func TestWhatIsNoSnapshotIsNotOpened(t *testing.T) {
	b := tt.NewMemory()
	put := func(blk blocks.Block, err error) cid.Cid {
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(ctx, blk); err != nil {
			t.Fatal(err)
		}
		return blk.Cid()
	}
	dir, file := tt.Tree(t, b, tt.Dir(nil)), tt.Tree(t, b, tt.File("x"))
	for name, c := range map[string]cid.Cid{
		"undefined":             cid.Undef,
		"unknown codec":         cid.NewCidV1(cid.DagJSON, dir.Hash()),
		"dag-cbor of other use": put(dagcbor.Encode(map[string]string{"kind": "other"})),
		"commit of the future":  put(dagcbor.Encode(map[string]string{"kind": "volary/commit/9"})),
		"tree is a file":        tt.CommitOf(t, b, file, cid.Undef),
		"tree is a commit":      tt.CommitOf(t, b, tt.Commit(t, b, tt.Dir(nil)), cid.Undef),
		"sidecar is a tree":     tt.CommitOf(t, b, dir, dir),
		"not UnixFS":            dagNode(t, b, []byte("junk")),
	} {
		if _, err := tree.Open(ctx, b, c); !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tree.Open(ctx, b, unixfs.Leaf([]byte("absent")).Cid()); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("an absent root: %v", err)
	}
	if s := open(t, b, tt.CommitOf(t, b, dir, cid.Undef)); s.HasSidecar() || s.Commit == nil {
		t.Error("a commit without a sidecar is not one")
	}
}
