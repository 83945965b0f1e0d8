package restorer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/ipld/merkledag"
	ft "github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
)

// around makes a directory with a target and a file beside it that must stay as it is.
func around(t *testing.T) (dir, dst string, check func()) {
	t.Helper()
	dir = tempDir(t)
	dst = filepath.Join(dir, "dst")
	outside := filepath.Join(dir, "outside")
	err := errors.Join(os.Mkdir(dst, 0o755), os.MkdirAll(filepath.Join(outside, "sub"), 0o750),
		os.WriteFile(filepath.Join(outside, "file"), []byte("precious"), 0o640),
		os.WriteFile(filepath.Join(outside, "sub/f"), []byte("precious too"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	before := found(t, outside)
	return dir, dst, func() {
		t.Helper()
		if d := cmp.Diff(before, found(t, outside)); d != "" {
			t.Errorf("outside of the target:\n%s", d)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
			t.Errorf("beside the target: %v %v", names, err)
		}
	}
}

// dagNode is a dag-pb node that no encoder of ours would write.
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

func foreign(t *testing.T, b snapshot.Blocks, c cid.Cid) *tree.Snapshot {
	t.Helper()
	s, err := tree.Open(ctx, b, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostileNamesLeadNowhere(t *testing.T) {
	for _, name := range []string{"", ".", "..", "/", "../outside/file", "/etc/x", "a/b", "nul\x00", strings.Repeat("n", 300)} {
		_, dst, check := around(t)
		b := tt.NewMemory()
		leaf := unixfs.Leaf([]byte("evil"))
		if err := b.Put(ctx, leaf); err != nil {
			t.Fatal(err)
		}
		dir := dagNode(t, b, ft.FolderPBData(), format.Link{Name: name, Cid: leaf.Cid(), Size: 4})
		root := tt.Tree(t, b, tt.Dir(map[string]tt.Node{"d": {Attr: meta.Attr{Type: meta.Dir}, Link: dir}}))
		if _, err := restorer.Restore(ctx, foreign(t, b, root), "", dst, options{Delete: true}); !errors.Is(err, snapshot.ErrFormat) || !strings.Contains(err.Error(), `"d"`) {
			t.Errorf("%q: %v", name, err)
		}
		check()
	}
}

func TestPlantedSymlinksAndHardlinksAreReplacedNotFollowed(t *testing.T) {
	snap := func() tt.Node {
		return tt.Dir(map[string]tt.Node{
			"sub":  tt.Dir(map[string]tt.Node{"f": tt.File("new"), "g": tt.File("new")}),
			"file": tt.File("new").With(mode(0o777)), "same": tt.File("precious").With(mode(0o777)),
			"fifo": tt.Special(meta.FIFO, 0, 0), "link": tt.Symlink("elsewhere"),
		})
	}
	for name, plant := range map[string]func(dst string) error{
		"symlinks": func(dst string) error {
			return errors.Join(os.Symlink("../outside/sub", dst+"/sub"), os.Symlink("../outside/file", dst+"/file"),
				os.Symlink("../outside/file", dst+"/same"), os.Symlink("../outside/file", dst+"/fifo"),
				os.Symlink("../outside/file", dst+"/link"), os.Symlink("../outside/sub", dst+"/"+restorer.TempPrefix+"1-1"))
		},
		"hardlinks": func(dst string) error {
			return errors.Join(os.Mkdir(dst+"/sub", 0o755), os.Link(dst+"/../outside/sub/f", dst+"/sub/f"),
				os.Link(dst+"/../outside/file", dst+"/file"), os.Link(dst+"/../outside/file", dst+"/same"),
				os.Link(dst+"/../outside/file", dst+"/"+restorer.TempPrefix+"1-1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, dst, check := around(t)
			if err := plant(dst); err != nil {
				t.Fatal(err)
			}
			s := open(t, tt.NewMemory(), snap())
			restore(t, s, "", dst, options{Delete: true})
			check()
			equal(t, s, "", dst)
		})
	}
}

func TestHardlinksThroughASymlinkAreNotMade(t *testing.T) {
	_, dst, check := around(t)
	if err := os.Symlink("../outside", filepath.Join(dst, "d")); err != nil {
		t.Fatal(err)
	}
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{
		"a": tt.File("x"), "d": tt.Dir(map[string]tt.Node{"file": tt.File("x"), "new": tt.File("x")}),
	}), meta.Hardlink{Path: "d/file", Leader: "a"}, meta.Hardlink{Path: "d/new", Leader: "a"})
	restore(t, s, "", dst, options{})
	check()
	equal(t, s, "", dst)
}

// An adversary swaps whatever appears in the target for symlinks while the restore goes on. The restore may
// fail; it must not leave the target.
func TestSymlinksPlantedMeanwhileAreNotFollowed(t *testing.T) {
	_, dst, check := around(t)
	dirs := map[string]tt.Node{}
	for i := range 8 {
		dirs[fmt.Sprint("sub", i)] = tt.Dir(map[string]tt.Node{
			"file": tt.File("evil").With(mode(0o777)), "f": tt.File("evil"), "sub": tt.Dir(map[string]tt.Node{"f": tt.File("evil")})})
	}
	s := open(t, tt.NewMemory(), tt.Dir(dirs), meta.Hardlink{Path: "sub1/file", Leader: "sub0/file"})
	var mu sync.Mutex
	n := 0
	plant := func(string) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		for i := range 8 {
			if (n+i)%3 > 0 {
				continue
			}
			sub := filepath.Join(dst, fmt.Sprint("sub", i))
			// What cannot be planted now is there already, or not yet.
			_ = os.Symlink("../../outside/file", filepath.Join(sub, "file"))
			_ = os.Symlink("../../outside/sub", filepath.Join(sub, "sub"))
			if n%5 == 0 {
				_ = os.Rename(sub, fmt.Sprint(sub, "-moved-", n))
				_ = os.Symlink("../outside", sub)
			}
		}
		return nil
	}
	for range 30 {
		if _, err := restorer.Restore(ctx, s, "", dst, options{Delete: true, Step: plant}); err != nil && errors.Is(err, restorer.ErrBusy) {
			t.Fatal(err)
		}
		check()
	}
	restore(t, s, "", dst, options{Delete: true})
	equal(t, s, "", dst)
	check()
}

func TestAnExponentialDAGIsBounded(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Tree(t, b, tt.Dir(nil))
	for range 40 {
		c = tt.Tree(t, b, tt.Dir(map[string]tt.Node{
			"l": {Attr: meta.Attr{Type: meta.Dir}, Link: c}, "r": {Attr: meta.Attr{Type: meta.Dir}, Link: c}}))
	}
	for _, l := range []tree.Limits{{MaxEntries: 100}, {MaxDepth: 10, MaxEntries: 1 << 20}} {
		r, err := restorer.Restore(ctx, foreign(t, b, c), "", tempDir(t), options{Limits: l})
		if !errors.Is(err, snapshot.ErrFormat) || r.Made > 2000 {
			t.Errorf("%+v: %d made, %v", l, r.Made, err)
		}
	}
}

func TestFilesThatLieAboutTheirSizeLeaveNothing(t *testing.T) {
	leaf := unixfs.Leaf([]byte("small"))
	file := func(size uint64) []byte {
		n := ft.NewFSNode(ft.TFile)
		n.AddBlockSize(size)
		data, err := n.GetBytes()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, size := range []uint64{4, 1 << 20, 1 << 62, 1 << 63} {
		b := tt.NewMemory()
		if err := b.Put(ctx, leaf); err != nil {
			t.Fatal(err)
		}
		f := dagNode(t, b, file(size), format.Link{Cid: leaf.Cid(), Size: 5})
		root := dagNode(t, b, ft.FolderPBData(), format.Link{Name: "f", Cid: f, Size: 5})
		dst := tempDir(t)
		if _, err := restorer.Restore(ctx, foreign(t, b, root), "", dst, options{}); err == nil {
			t.Errorf("a file of %d bytes in a block of 5 was restored", size)
		}
		if names, err := os.ReadDir(dst); err != nil || len(names) > 0 {
			t.Errorf("left %v", names)
		}
	}
}

func TestAFileWhereADirectoryShouldBeIsReplaced(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"d": tt.Dir(map[string]tt.Node{"e": tt.Dir(nil)})}))
	dst := tempDir(t)
	if err := unix.Mkfifo(filepath.Join(dst, "d"), 0o600); err != nil {
		t.Fatal(err)
	}
	restore(t, s, "", dst, options{})
	equal(t, s, "", dst)
}
