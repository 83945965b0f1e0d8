package importer

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// rows returns every row of a snapshot's sidecar by its path, the top directory's under ".".
func rows(t testing.TB, m *memory, c *snapshot.Commit) map[string]meta.Row {
	t.Helper()
	root, err := meta.ReadRoot(t.Context(), m, c.Meta)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]meta.Row{".": {Attr: root.Attr}}
	var walk func(prefix string, entries cid.Cid)
	walk = func(prefix string, entries cid.Cid) {
		for row, err := range meta.Rows(t.Context(), m, entries) {
			if err != nil {
				t.Fatal(err)
			}
			all[prefix+row.Name] = row
			walk(prefix+row.Name+"/", row.Entries)
		}
	}
	walk("", root.Entries)
	return all
}

// files returns the content of every file of a snapshot's tree, "/" for a directory and the target behind an
// arrow for a symlink, by path.
func files(t testing.TB, m *memory, tree cid.Cid) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(prefix string, dir cid.Cid)
	walk = func(prefix string, dir cid.Cid) {
		cs, err := unixfs.List(t.Context(), m, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			b, err := m.Get(t.Context(), c.CID)
			if err != nil {
				t.Fatal(err)
			}
			n, err := unixfs.Stat(b)
			if err != nil {
				t.Fatal(err)
			}
			switch n.Kind {
			case unixfs.Dir:
				all[prefix+c.Name] = "/"
				walk(prefix+c.Name+"/", c.CID)
			case unixfs.Symlink:
				all[prefix+c.Name] = "-> " + n.Target
			default:
				all[prefix+c.Name] = string(read(t, m, c.CID))
			}
		}
	}
	walk("", tree)
	return all
}

func read(t testing.TB, m *memory, file cid.Cid) []byte {
	t.Helper()
	var data []byte
	for c, err := range unixfs.Chunks(t.Context(), m, file) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Data == nil {
			b, err := m.Get(t.Context(), c.CID)
			if err != nil {
				t.Fatal(err)
			}
			c.Data = b.RawData()
		}
		data = append(data, c.Data...)
	}
	return data
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryKindOfEntryAnUnprivilegedUserCanMakeIsCaptured(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), "content")
	must(t, os.Chmod(at("file"), 0o640|os.ModeSetuid|os.ModeSetgid))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("file"), []unix.Timespec{{Sec: 1}, {Sec: -5, Nsec: 123456789}}, 0))
	must(t, unix.Setxattr(at("file"), "user.b", []byte{0, 1}, 0))
	must(t, unix.Setxattr(at("file"), "user.a", nil, 0))
	must(t, unix.Setxattr(at("file"), "user.big", bytes.Repeat([]byte("x"), 2000), 0))
	must(t, os.Mkdir(at("dir"), 0o755))
	must(t, os.Chmod(at("dir"), 0o700|os.ModeSticky))
	must(t, unix.Setxattr(at("dir"), "user.on-a-dir", []byte("v"), 0))
	must(t, os.Symlink("../no where\n", at("dir/link")))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("dir/link"), []unix.Timespec{{}, {Sec: 7, Nsec: 8}}, unix.AT_SYMLINK_NOFOLLOW))
	must(t, unix.Mkfifo(at("fifo"), 0o600))
	l, err := net.Listen("unix", at("socket"))
	must(t, err)
	defer l.Close()
	write(t, at("odd\n\xff name"), "")

	r := imported(t, m, dir, Options{})
	wantFiles := map[string]string{"file": "content", "dir": "/", "dir/link": "-> ../no where\n", "odd\n\xff name": ""}
	if diff := cmp.Diff(wantFiles, files(t, m, r.Commit.Tree)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if want := (snapshot.Stats{Files: 2, Dirs: 2, Symlinks: 1, Others: 2, Bytes: 7}); r.Commit.Stats != want {
		t.Errorf("stats = %+v, want %+v", r.Commit.Stats, want)
	}
	all := rows(t, m, r.Commit)
	for path, row := range all {
		var st unix.Stat_t
		must(t, unix.Lstat(at(path), &st))
		want := meta.Attr{
			Type: fileType(st.Mode), Mode: uint16(st.Mode & meta.ModeMask), UID: st.Uid, GID: st.Gid,
			Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec),
			Xattrs: row.Xattrs, XattrsAt: row.XattrsAt, Below: row.Below, Entries: row.Entries,
		}
		if diff := cmp.Diff(want, row.Attr, cmp.Comparer(func(a, b cid.Cid) bool { return a == b })); diff != "" {
			t.Errorf("%q (-want +got):\n%s", path, diff)
		}
	}
	if f := all["file"]; f.Sec != -5 || f.Nsec != 123456789 || f.Mode != 0o6640 {
		t.Errorf("file = %+v", f)
	}
	xs, err := meta.ReadXattrs(t.Context(), m, all["file"].Attr)
	must(t, err)
	want := []meta.Xattr{{Name: "user.a", Value: []byte{}}, {Name: "user.b", Value: []byte{0, 1}},
		{Name: "user.big", Value: bytes.Repeat([]byte("x"), 2000)}}
	if diff := cmp.Diff(want, xs); diff != "" {
		t.Errorf("xattrs of the file (-want +got):\n%s", diff)
	}
	if xs := all["dir"].Xattrs; len(xs) != 1 || xs[0].Name != "user.on-a-dir" {
		t.Errorf("xattrs of the directory = %+v", xs)
	}
	if got := all["."].Below; got != 6 || len(all) != 7 {
		t.Errorf("%d below the top, %d rows; want 6 and 7", got, len(all))
	}
}

func TestHardlinksAreOneFileReadOnce(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	for _, d := range []string{"a", "a.b", "z"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	write(t, filepath.Join(dir, "z/last"), "shared")
	must(t, os.Link(filepath.Join(dir, "z/last"), filepath.Join(dir, "a/x")))
	must(t, os.Link(filepath.Join(dir, "z/last"), filepath.Join(dir, "a.b/x")))
	must(t, os.Link(filepath.Join(dir, "z/last"), filepath.Join(dir, "z/first")))
	write(t, filepath.Join(dir, "kept"), "alone")
	must(t, os.Link(filepath.Join(dir, "kept"), filepath.Join(dir, "excluded")))
	must(t, unix.Mkfifo(filepath.Join(dir, "p1"), 0o600))
	must(t, os.Link(filepath.Join(dir, "p1"), filepath.Join(dir, "p2")))

	var opened opens
	r, err := importDir(t.Context(), m, dir, Options{Exclude: []string{"excluded"}}, hooks{opening: opened.add})
	must(t, err)
	root, err := meta.ReadRoot(t.Context(), m, r.Commit.Meta)
	must(t, err)
	var got []meta.Hardlink
	for l, err := range meta.Hardlinks(t.Context(), m, root.Hardlinks) {
		must(t, err)
		got = append(got, l)
	}
	// "a.b/x" comes before "a/x": '.' is less than '/'.
	want := []meta.Hardlink{{Path: "a/x", Leader: "a.b/x"}, {Path: "p2", Leader: "p1"}, {Path: "z/first", Leader: "a.b/x"}, {Path: "z/last", Leader: "a.b/x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hardlinks (-want +got):\n%s", diff)
	}
	if n := opened.count(); n != 2 {
		t.Errorf("%d files were opened, want 2", n)
	}
	if s := r.Commit.Stats; s.Files != 5 || s.Bytes != uint64(len("shared")+len("alone")) {
		t.Errorf("stats = %+v, want 5 files and each content once", s)
	}
	for path, content := range files(t, m, r.Commit.Tree) {
		if content == "/" || path == "kept" {
			continue
		}
		if content != "shared" {
			t.Errorf("%s holds %q", path, content)
		}
	}
}

func TestHolesAreNotedAndChangeNoCID(t *testing.T) {
	for _, o := range []Options{{}, {Chunker: "size-65536"}, {Chunker: "buzhash"}} {
		dir, m := t.TempDir(), newMemory()
		content := make([]byte, 5<<20+100)
		copy(content[2<<20+5000:], "in the middle")
		write(t, filepath.Join(dir, "dense"), string(content))
		f, err := os.Create(filepath.Join(dir, "sparse"))
		must(t, err)
		must(t, f.Truncate(int64(len(content))))
		_, err = f.WriteAt([]byte("in the middle"), 2<<20+5000)
		must(t, err)
		must(t, f.Close())
		must(t, os.Truncate(filepath.Join(dir, "sparse"), int64(len(content))))
		write(t, filepath.Join(dir, "hole"), "")
		must(t, os.Truncate(filepath.Join(dir, "hole"), 4096))

		r := imported(t, m, dir, o)
		all := rows(t, m, r.Commit)
		if !all["sparse"].Sparse || !all["hole"].Sparse || all["dense"].Sparse {
			t.Errorf("sparse: %v, hole: %v, dense: %v; want the first two", all["sparse"].Sparse, all["hole"].Sparse, all["dense"].Sparse)
		}
		cs, err := unixfs.List(t.Context(), m, r.Commit.Tree)
		must(t, err)
		i := slices.IndexFunc(cs, func(c unixfs.Child) bool { return c.Name == "dense" })
		j := slices.IndexFunc(cs, func(c unixfs.Child) bool { return c.Name == "sparse" })
		if cs[i].CID != cs[j].CID || !bytes.Equal(read(t, m, cs[j].CID), content) {
			t.Errorf("chunker %q: the sparse file is %s, the dense one %s", o.Chunker, cs[j].CID, cs[i].CID)
		}
	}
}

func TestAHugeHoleIsNotRead(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	write(t, filepath.Join(dir, "f"), "")
	must(t, os.Truncate(filepath.Join(dir, "f"), 1<<38)) // 256 GiB would take minutes to read
	r := imported(t, m, dir, Options{})
	if r.Commit.Stats.Bytes != 1<<38 {
		t.Errorf("stats = %+v", r.Commit.Stats)
	}
	if len(m.blocks) > 1000 {
		t.Errorf("%d blocks", len(m.blocks))
	}
}

func TestATreeFarDeeperThanAPathMayBeLongIsImported(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	const depth = 600
	name := strings.Repeat("d", 20)
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "z", 0o755)) // a sibling makes each level be opened again
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	r := imported(t, m, dir, Options{})
	if got := r.Commit.Stats.Dirs; got != 1+2*depth {
		t.Errorf("%d directories, want %d", got, 1+2*depth)
	}
}
