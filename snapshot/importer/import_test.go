package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/unixfs"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func boxoFile(t *testing.T, data []byte, chunker string) cid.Cid {
	t.Helper()
	bs := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	dag := merkledag.NewDAGService(blockservice.New(bs, offline.Exchange(bs)))
	p := uio.UnixFS_v1_2025
	par := helpers.DagBuilderParams{Maxlinks: p.FileDAGWidth, RawLeaves: true, CidBuilder: p.CidBuilder(), Dagserv: dag}
	s, err := chunk.FromString(bytes.NewReader(data), chunker)
	must(t, err)
	db, err := par.New(s)
	must(t, err)
	nd, err := balanced.Layout(db)
	must(t, err)
	return nd.Cid()
}

func TestEveryChunkerCutsAsBoxoDoes(t *testing.T) {
	data := noise(5<<20 + 77)
	for _, chunker := range []string{"size-1048576", "size-65536", "size-3000", "size-2096896", "rabin-65536-131072-262144", "rabin", "buzhash"} {
		dir, m := t.TempDir(), newMemory()
		sizes := []int{0, 1, 2999, 3000, 65536, 65537, 1 << 20, 1<<20 + 1, 3 << 20, len(data)}
		for _, n := range sizes {
			write(t, filepath.Join(dir, fmt.Sprint(n)), string(data[:n]))
		}
		r := imported(t, m, dir, Options{Chunker: chunker})
		if r.Commit.Import.Chunker != chunker || r.Commit.Import.Profile != unixfs.Profile {
			t.Errorf("recorded as %+v", r.Commit.Import)
		}
		for _, n := range sizes {
			c, ok, err := unixfs.Find(t.Context(), m, r.Commit.Tree, fmt.Sprint(n))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if want := boxoFile(t, data[:n], chunker); c.CID != want {
				t.Errorf("%s of %d bytes: %s, boxo makes %s", chunker, n, c.CID, want)
			}
			if !bytes.Equal(read(t, m, c.CID), data[:n]) {
				t.Errorf("%s of %d bytes reads back differently", chunker, n)
			}
		}
	}
}

func TestImpossibleChunkersAreRefused(t *testing.T) {
	for _, s := range []string{"size-0", "size--1", "size-", "size-x", "size-01", "size-9999999", "rabin-3-2-1", "rabin-x", "buzhash-7", "none", "-"} {
		if _, err := Import(t.Context(), newMemory(), t.TempDir(), Options{Chunker: s}); err == nil {
			t.Errorf("chunker %q was taken", s)
		}
	}
}

func TestTheSnapshotDependsOnNothingButTheDirectory(t *testing.T) {
	dir := diskDir(t)
	data := noise(4 << 20)
	for i := range 400 {
		write(t, filepath.Join(dir, fmt.Sprint("d", i%7), fmt.Sprint("e", i%3), fmt.Sprint(i)), string(data[:i*i%5000]))
	}
	write(t, filepath.Join(dir, "large"), string(data))
	must(t, os.Link(filepath.Join(dir, "d1/e1/1"), filepath.Join(dir, "d0/linked")))
	age()
	m := newMemory()
	want := imported(t, m, dir, Options{Workers: 1})
	for _, o := range []Options{{Workers: 2}, {Workers: 8}, {Cache: m}, {Cache: m}, {Cache: m, Workers: 8}} {
		got := imported(t, newMemory(), dir, o)
		if o.Cache != nil {
			got = imported(t, m, dir, o)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b cid.Cid) bool { return a == b })); diff != "" {
			t.Errorf("%d workers (-one +got):\n%s", o.Workers, diff)
		}
	}
}

func TestPatternsExcludeAsGitDoes(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{
		"a.log", "b.txt", "keep.log", "build/x", "src/build/x", "src/a.log", "src/deep/er/c.tmp", "src/deep/c.tmp",
		"#hash", "!bang", "trail ", "doc/a/b/c.md", "doc/c.md", "only/here", "else/only/here", "keep.d/x.log", "star*x", "sub/own.txt", "sub/below/own.txt", "own.txt",
	} {
		write(t, filepath.Join(dir, f), "")
	}
	for _, tc := range []struct {
		name    string
		exclude []string
		gone    []string
	}{
		{"a name at any depth", []string{"a.log"}, []string{"a.log", "src/a.log"}},
		{"a glob with an exception", []string{"*.log", "!keep.log", "!keep.d"}, []string{"a.log", "src/a.log", "keep.d/x.log"}},
		{"a directory only", []string{"build/"}, []string{"build", "build/x", "src/build", "src/build/x"}},
		{"anchored", []string{"/build"}, []string{"build", "build/x"}},
		{"anchored by a slash inside", []string{"only/here"}, []string{"only/here"}},
		{"any depth below", []string{"src/**/c.tmp"}, []string{"src/deep/er/c.tmp", "src/deep/c.tmp"}},
		{"everything below", []string{"doc/**"}, []string{"doc/a", "doc/a/b", "doc/a/b/c.md", "doc/c.md"}},
		{"any directory above", []string{"**/b/c.md"}, []string{"doc/a/b/c.md"}},
		{"escapes", []string{`\#hash`, `\!bang`, `trail\ `, `star\*x`}, []string{"#hash", "!bang", "trail ", "star*x"}},
		{"comments and blanks", []string{"# a.log", "", "   "}, nil},
		{"classes", []string{"[!a].txt"}, []string{"b.txt"}},
		{"the last one decides", []string{"!a.log", "a.log", "!/a.log"}, []string{"src/a.log"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMemory()
			all := files(t, m, imported(t, m, dir, Options{}).Commit.Tree)
			got := imported(t, m, dir, Options{Exclude: tc.exclude})
			left := files(t, m, got.Commit.Tree)
			var gone []string
			for path := range all {
				if _, ok := left[path]; !ok {
					gone = append(gone, path)
				}
			}
			slices.Sort(gone)
			slices.Sort(tc.gone)
			if diff := cmp.Diff(tc.gone, gone); diff != "" {
				t.Errorf("excluded (-want +got):\n%s", diff)
			}
			if (got.Excluded > 0) != (len(gone) > 0) {
				t.Errorf("%d excluded, %d gone", got.Excluded, len(gone))
			}
			if n := len(rows(t, m, got.Commit)); n != len(left)+1 {
				t.Errorf("%d rows for %d entries", n, len(left))
			}
		})
	}
}

func TestIgnoreFilesAreHonouredInTheDirectoryAndBelow(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	for _, f := range []string{"a", "b", "sub/a", "sub/b", "sub/deep/b", "sub/deep/c", "other/c"} {
		write(t, filepath.Join(dir, f), "")
	}
	write(t, filepath.Join(dir, DefaultIgnoreFile), "a\n")
	write(t, filepath.Join(dir, "sub", DefaultIgnoreFile), "!a\n/b\r\nc\n")
	list := filepath.Join(t.TempDir(), "list")
	write(t, list, "other\na\n")
	paths := func(o Options) []string {
		var ps []string
		for p, content := range files(t, m, imported(t, m, dir, o).Commit.Tree) {
			if content != "/" && filepath.Base(p) != DefaultIgnoreFile {
				ps = append(ps, p)
			}
		}
		slices.Sort(ps)
		return ps
	}
	for _, tc := range []struct {
		o    Options
		want []string
	}{
		{Options{}, []string{"b", "other/c", "sub/a", "sub/deep/b"}},
		{Options{NoIgnoreFile: true}, []string{"a", "b", "other/c", "sub/a", "sub/b", "sub/deep/b", "sub/deep/c"}},
		{Options{ExcludeFiles: []string{list}}, []string{"b", "sub/a", "sub/deep/b"}},
		{Options{Exclude: []string{"!a", "b"}}, []string{"a", "other/c", "sub/a"}},
	} {
		if diff := cmp.Diff(tc.want, paths(tc.o)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.o, diff)
		}
	}
	for _, o := range []Options{{Exclude: []string{"[a"}}, {ExcludeFiles: []string{"/does/not/exist"}}} {
		if _, err := Import(t.Context(), m, dir, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestWhatIsNoDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for path, want := range map[string]error{filepath.Join(dir, "absent"): fs.ErrNotExist, filepath.Join(dir, "file"): syscall.ENOTDIR} {
		if _, err := Import(t.Context(), newMemory(), path, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

// TestAnUnreadableFileIsNamed runs itself as nobody where root could read everything.
func TestAnUnreadableFileIsNamed(t *testing.T) {
	const child = "VOLARY_TEST_UNREADABLE"
	if dir := os.Getenv(child); dir != "" {
		if os.Geteuid() == 0 {
			t.Fatal("run as root, who may read everything")
		}
		_, err := Import(t.Context(), newMemory(), dir, Options{})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "d/secret") || !strings.Contains(err.Error(), "exclude it") {
			t.Errorf("err = %v", err)
		}
		imported(t, newMemory(), dir, Options{Exclude: []string{"secret"}})
		return
	}
	dir := filepath.Join(t.TempDir(), "top")
	write(t, filepath.Join(dir, "d/secret"), "")
	must(t, os.Chmod(filepath.Join(dir, "d/secret"), 0))
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"="+dir)
	if os.Geteuid() == 0 {
		for p := dir; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
			must(t, os.Chmod(p, 0o755))
		}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) {
		t.Errorf("the test was not run, or failed: %v\n%s", err, out)
	}
}

func TestASnapshotSaysWhetherItHasXattrs(t *testing.T) {
	for name, at := range map[string]string{"the root": "", "a file": "dir/f", "a directory": "dir"} {
		dir, m := diskDir(t), newMemory()
		write(t, filepath.Join(dir, "dir/f"), "x")
		if !imported(t, m, dir, Options{Cache: m}).Commit.NoXattrs {
			t.Errorf("%s: without attributes the snapshot may have some", name)
		}
		must(t, unix.Setxattr(filepath.Join(dir, at), "user.x", []byte("y"), 0))
		age()
		for range 3 { // read, and then remembered
			if imported(t, m, dir, Options{Cache: m}).Commit.NoXattrs {
				t.Errorf("%s: the snapshot says that it has no attributes", name)
			}
		}
	}
}
