// Package mounttest says in tests what [volume.Mounter] promises. Start with [Run], which every implementation
// passes; [RunKernel] is for one whose mounts every program sees. [Copies] is one without a kernel, for the
// tests of what stands on a Mounter.
package mounttest

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
)

// Run tests an implementation; open returns one that lives as long as the test.
func Run(t *testing.T, open func(t *testing.T) volume.Mounter) {
	run(t, open, volume.MountOptions{}, common())
}

func common() []testCase {
	return []testCase{
		{"a fresh mount shows the base", testFresh},
		{"what was never mounted is the base", testNeverMounted},
		{"changes of every kind are in a snapshot", testChanges},
		{"a snapshot of what is not mounted has the changes", testUnmounted},
		{"changes are there when it is mounted again", testAgain},
		{"mounting what is mounted changes nothing", testTwice},
		{"unmounting what is not mounted is no error", testUnmountTwice},
		{"mounts in two directories know nothing of each other", testTwo},
		{"a snapshot is no change", testSnapshots},
		{"what patterns exclude is in no snapshot", testExclude},
		{"names of one file stay names of one file", testHardlinks},
		{"what follows shows another state, and what is open its own", testFollow},
		{"a base without a sidecar", testBare},
		{"an empty base", testEmpty},
	}
}

type testCase struct {
	name string
	test func(*mount)
}

func run(t *testing.T, open func(t *testing.T) volume.Mounter, o volume.MountOptions, cases []testCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(newMount(t, open(t), o)) })
	}
}

// mount is a Mounter with a base and a directory, and not mounted yet.
type mount struct {
	*testing.T
	m    volume.Mounter
	o    volume.MountOptions // of every mount
	b    *session
	base *tree.Snapshot
	dir  string
}

func newMount(t *testing.T, m volume.Mounter, o volume.MountOptions) *mount {
	s := &session{Memory: blockstest.NewMemory(), records: map[string][]byte{}}
	x := &mount{T: t, m: m, o: o, b: s, dir: t.TempDir()}
	x.base = x.open(tt.Commit(t, s, x.owned(baseTree()), meta.Hardlink{Path: "dir/other", Leader: "dir/one"}))
	t.Cleanup(func() { x.must(m.Unmount(context.Background(), x.dir)) })
	return x
}

type nodes = map[string]tt.Node

func baseTree() tt.Node {
	both := tt.File("both")
	return tt.Dir(nodes{
		"a":    tt.File("data of a"),
		"dir":  tt.Dir(nodes{"b": tt.File("b"), "deep": tt.Dir(nodes{"c": tt.File("c")}), "one": both, "other": both}),
		"gone": tt.Dir(nodes{"x": tt.File("x"), "y": tt.File("y")}),
		"link": tt.Symlink("dir/b"),
		"none": tt.File(""),
	})
}

func (x *mount) owned(n tt.Node) tt.Node { return n.Owned(os.Getuid(), os.Getgid()) }

func (x *mount) open(c cid.Cid) *tree.Snapshot {
	x.Helper()
	s, err := tree.Open(x.Context(), x.b, c)
	x.must(err)
	s.Commit.Stats = x.count(s)
	return s
}

// count counts what literal trees do not.
func (x *mount) count(s *tree.Snapshot) (n snapshot.Stats) {
	x.Helper()
	for e, err := range s.Walk(x.Context(), "", tree.Limits{}) {
		x.must(err)
		switch e.Type {
		case meta.File:
			n.Files++
			n.Bytes += e.Size
		case meta.Dir:
			n.Dirs++
		case meta.Symlink:
			n.Symlinks++
		default:
			n.Others++
		}
	}
	for h, err := range s.Hardlinks(x.Context()) {
		x.must(err)
		e, err := s.Lookup(x.Context(), h.Path)
		x.must(err)
		if e.Type == meta.File {
			n.Bytes -= e.Size
		}
	}
	return n
}

func (x *mount) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *mount) mount(o volume.MountOptions) {
	x.Helper()
	o.Full = x.o.Full
	x.must(x.m.Mount(x.Context(), x.base, x.dir, o))
}

func (x *mount) unmount() {
	x.Helper()
	x.must(x.m.Unmount(x.Context(), x.dir))
}

// at is the path of a file in the mount.
func (x *mount) at(path string) string { return filepath.Join(x.m.Path(x.dir), path) }

func (x *mount) write(path, content string) {
	x.Helper()
	x.must(os.WriteFile(x.at(path), []byte(content), 0o644))
}

func (x *mount) options() importer.Options {
	return importer.Options{Chunker: x.base.Commit.Import.Chunker, NoIgnoreFile: true, Cache: x.b}
}

func (x *mount) snapshot() *snapshot.Commit {
	x.Helper()
	return x.snapshotWith(x.options())
}

func (x *mount) snapshotWith(o importer.Options) *snapshot.Commit {
	x.Helper()
	c, unsettled, err := x.m.Snapshot(x.Context(), x.b, x.base, x.dir, o)
	x.must(err)
	if len(unsettled) > 0 {
		x.Errorf("nobody changed anything, and %q did not settle", unsettled)
	}
	if c.Import.Profile == "" {
		x.Errorf("the commit does not say how files were imported: %+v", c.Import)
	}
	return c
}

// same fails unless a commit is of the same tree, sidecar and counts as another.
func (x *mount) same(what string, got, want *snapshot.Commit) {
	x.Helper()
	if got.Tree != want.Tree || got.Meta != want.Meta {
		x.Errorf("%s: tree %s, sidecar %s; want %s, %s\n%s", what, got.Tree, got.Meta, want.Tree, want.Meta,
			cmp.Diff(x.list(want), x.list(got)))
	}
	if got.Stats != want.Stats {
		x.Errorf("%s: counts %+v, want %+v", what, got.Stats, want.Stats)
	}
}

// visible imports what programs see.
func (x *mount) visible() *snapshot.Commit {
	x.Helper()
	o := x.options()
	o.Cache = nil
	r, err := importer.Import(x.Context(), x.b, x.m.Path(x.dir), o)
	x.must(err)
	return r.Commit
}

// shown is an entry as people read it. Link is the name that a further name of a file belongs to.
type shown struct {
	Type, Data, Link string
	Mode             uint16
	UID, GID         uint32
	Mtime            int64
	Xattrs           []meta.Xattr
}

func (x *mount) list(c *snapshot.Commit) map[string]shown {
	x.Helper()
	s, err := tree.OpenCommit(x.Context(), x.b, c)
	x.must(err)
	all := map[string]shown{}
	for e, err := range s.Walk(x.Context(), "", tree.Limits{}) {
		x.must(err)
		i := shown{Type: e.Type.String(), Mode: e.Mode, UID: e.UID, GID: e.GID, Mtime: e.Mtime().UnixNano(), Xattrs: e.Xattrs}
		if i.Data = e.Target; e.Type == meta.File {
			i.Data = x.content(s, e.Entry)
		}
		all[e.Path] = i
	}
	for h, err := range s.Hardlinks(x.Context()) {
		x.must(err)
		i := all[h.Path]
		i.Link = h.Leader
		all[h.Path] = i
	}
	return all
}

func (x *mount) content(s *tree.Snapshot, e tree.Entry) string {
	x.Helper()
	r, err := s.Reader(x.Context(), e)
	x.must(err)
	defer r.Close()
	data := make([]byte, r.Size())
	if len(data) > 0 {
		_, err = io.ReadFull(r, data)
		x.must(err)
	}
	return string(data)
}

// wantFiles fails unless a commit has the files, links and directories: contents, targets, or "/".
func (x *mount) wantFiles(c *snapshot.Commit, want map[string]string) {
	x.Helper()
	got := map[string]string{}
	for path, i := range x.list(c) {
		if got[path] = i.Data; i.Type == meta.Dir.String() {
			got[path] = "/"
		}
	}
	delete(got, "")
	if diff := cmp.Diff(want, got); diff != "" {
		x.Errorf("-want +got:\n%s", diff)
	}
}

// baseFiles is what the base has, with changes; "-" is for what is not there.
func baseFiles(changes map[string]string) map[string]string {
	all := map[string]string{
		"a": "data of a", "dir": "/", "dir/b": "b", "dir/deep": "/", "dir/deep/c": "c", "dir/one": "both", "dir/other": "both",
		"gone": "/", "gone/x": "x", "gone/y": "y", "link": "dir/b", "none": "",
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_, data string) bool { return data == "-" })
	return all
}

// session is a volume.Session in memory.
type session struct {
	*blockstest.Memory

	mu      sync.Mutex
	records map[string][]byte
}

var _ volume.Session = (*session)(nil)

func (s *session) Close() error { return nil }

func (s *session) LoadStat(_ context.Context, key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[string(key)], nil
}

func (s *session) SaveStat(_ context.Context, recs []importer.StatRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range recs {
		s.records[string(r.Key)] = r.Value
	}
	return nil
}

func (s *session) Adopt(_ context.Context, roots []cid.Cid) ([]bool, error) {
	kept := make([]bool, len(roots))
	for i := range kept {
		kept[i] = true
	}
	return kept, nil
}
