package meta_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
	"github.com/volary/volary/snapshot/meta"
)

var sameCID = cmp.Comparer(func(x, y cid.Cid) bool { return x == y })

func someCID(t testing.TB, s string) cid.Cid {
	t.Helper()
	blk, err := dagcbor.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return blk.Cid()
}

// everyKind has a row of each type, with every attribute in use.
func everyKind(t testing.TB) []meta.Row {
	return []meta.Row{
		{Name: "\xff not utf-8", Attr: meta.Attr{Type: meta.Symlink, Mode: 0o777, Sec: -1, Nsec: 999999999}},
		{Name: "block", Attr: meta.Attr{Type: meta.BlockDevice, Mode: 0o660, Major: 8, Minor: 1}},
		{Name: "char", Attr: meta.Attr{Type: meta.CharDevice, Mode: 0o666, Major: 1, Minor: 3}},
		{Name: "dir", Attr: meta.Attr{Type: meta.Dir, Mode: 0o1777, Below: 3, Entries: someCID(t, "rows")}},
		{Name: "empty", Attr: meta.Attr{Type: meta.Dir, Mode: 0o2755}},
		{Name: "fifo", Attr: meta.Attr{Type: meta.FIFO, Mode: 0o600}},
		{Name: "file", Attr: meta.Attr{Type: meta.File, Mode: 0o4755, UID: 1 << 31, GID: 7, Sec: 1 << 40, Nsec: 5,
			Xattrs: []meta.Xattr{{Name: "security.capability", Value: []byte{1, 0, 2}}, {Name: "user.a"}}}},
		{Name: "many xattrs", Attr: meta.Attr{Type: meta.File, XattrsAt: someCID(t, "xattrs")}},
		{Name: "socket", Attr: meta.Attr{Type: meta.Socket, Mode: 0o755}},
		{Name: "sparse", Attr: meta.Attr{Type: meta.File, Mode: 0o644, Sparse: true}},
	}
}

func sorted(rows []meta.Row) []meta.Row {
	slices.SortFunc(rows, func(a, b meta.Row) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

func collect(t testing.TB, b meta.Getter, entries cid.Cid) []meta.Row {
	t.Helper()
	var rows []meta.Row
	for row, err := range meta.Rows(context.Background(), b, entries) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func TestRowsReadBackAsWritten(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	want := sorted(everyKind(t))
	entries, below, err := meta.WriteDir(ctx, b, want)
	if err != nil {
		t.Fatal(err)
	}
	if below != uint64(len(want))+3 {
		t.Errorf("below = %d, want %d rows and the 3 below dir", below, len(want))
	}
	for i := range want {
		if len(want[i].Xattrs) > 1 {
			want[i].Xattrs[1].Value = []byte{}
		}
	}
	if diff := cmp.Diff(want, collect(t, b, entries), sameCID); diff != "" {
		t.Errorf("rows differ (-written +read):\n%s", diff)
	}
}

func manyRows(n int) []meta.Row {
	rows := make([]meta.Row, n)
	for i := range rows {
		rows[i] = meta.Row{Name: fmt.Sprintf("name-%07d", i), Attr: meta.Attr{Type: meta.File, Mode: 0o644, Sec: 1700000000, Nsec: uint32(i)}}
	}
	return rows
}

func TestLargeDirectoryIsCutIntoRunsThatFit(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	rows := manyRows(30000)
	entries, below, err := meta.WriteDir(ctx, b, rows)
	if err != nil {
		t.Fatal(err)
	}
	if below != 30000 {
		t.Errorf("below = %d, want 30000", below)
	}
	if diff := cmp.Diff(rows, collect(t, b, entries), sameCID); diff != "" {
		t.Errorf("rows differ (-written +read):\n%s", diff)
	}
	root, err := b.Get(ctx, entries)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := snapshot.Links(root)
	if err != nil || len(runs) < 5 {
		t.Fatalf("index has %d runs, error %v; want several", len(runs), err)
	}
	for _, c := range runs {
		blk, err := b.Get(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if len(blk.RawData()) > meta.MaxRun+16 {
			t.Errorf("run of %d bytes is larger than %d", len(blk.RawData()), meta.MaxRun)
		}
	}
	for _, i := range []int{0, 1, 14999, 29999} {
		row, ok, err := meta.Find(ctx, b, entries, rows[i].Name)
		if err != nil || !ok || row.Nsec != uint32(i) {
			t.Errorf("find %q: %v, %v, %v", rows[i].Name, row, ok, err)
		}
	}
	for _, name := range []string{"a", "name-0014999x", "z"} {
		if _, ok, err := meta.Find(ctx, b, entries, name); ok || err != nil {
			t.Errorf("find %q: found %v, error %v; want neither", name, ok, err)
		}
	}
}

// An insertion re-writes the run it falls into and the index; a boundary may be added or, in a run that was
// too large, moved, but every other run stays the same block.
func TestInsertionLeavesOtherRunsAlone(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	rng := rand.New(rand.NewPCG(1, 2))
	rows := manyRows(30000)
	links := func(rows []meta.Row) map[cid.Cid]bool {
		entries, _, err := meta.WriteDir(ctx, b, rows)
		if err != nil {
			t.Fatal(err)
		}
		blk, err := b.Get(ctx, entries)
		if err != nil {
			t.Fatal(err)
		}
		cs, err := snapshot.Links(blk)
		if err != nil {
			t.Fatal(err)
		}
		set := map[cid.Cid]bool{}
		for _, c := range cs {
			set[c] = true
		}
		return set
	}
	before := links(rows)
	for range 20 {
		at := rng.IntN(len(rows))
		inserted := slices.Insert(slices.Clone(rows), at+1, meta.Row{Name: rows[at].Name + "+", Attr: meta.Attr{Type: meta.FIFO}})
		lost := 0
		after := links(inserted)
		for c := range before {
			if !after[c] {
				lost++
			}
		}
		if lost > 1 {
			t.Errorf("inserting after %q re-wrote %d of %d runs", rows[at].Name, lost, len(before))
		}
	}
}

func TestRowsOfLongNamesStillFit(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	rows := make([]meta.Row, 5000)
	for i := range rows {
		rows[i] = meta.Row{Name: fmt.Sprintf("%05d%s", i, strings.Repeat("x", 250)), Attr: meta.Attr{Type: meta.File,
			Xattrs: []meta.Xattr{{Name: "user.x", Value: make([]byte, 900)}}}}
	}
	entries, _, err := meta.WriteDir(ctx, b, rows)
	if err != nil {
		t.Fatal(err)
	}
	if got := collect(t, b, entries); len(got) != len(rows) {
		t.Errorf("read %d rows of %d", len(got), len(rows))
	}
}

func TestRootAndHardlinksReadBack(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	var links []meta.Hardlink
	for i := range 30000 {
		links = append(links, meta.Hardlink{Path: fmt.Sprintf("b/%06d\xfe", i), Leader: "a/first"})
	}
	want := meta.Attr{Type: meta.Dir, Mode: 0o755, UID: 3, Sec: 5, Below: 9, Entries: someCID(t, "x")}
	c, err := meta.WriteRoot(ctx, b, want, links)
	if err != nil {
		t.Fatal(err)
	}
	root, err := meta.ReadRoot(ctx, b, c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, root.Attr, sameCID); diff != "" {
		t.Errorf("root differs (-written +read):\n%s", diff)
	}
	var got []meta.Hardlink
	for l, err := range meta.Hardlinks(ctx, b, root.Hardlinks) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if diff := cmp.Diff(links, got); diff != "" {
		t.Errorf("hardlinks differ (-written +read):\n%s", diff)
	}
	if leader, ok, err := meta.Leader(ctx, b, root.Hardlinks, "b/004000\xfe"); leader != "a/first" || !ok || err != nil {
		t.Errorf("leader = %q, %v, %v", leader, ok, err)
	}
	if _, ok, err := meta.Leader(ctx, b, root.Hardlinks, "a/first"); ok || err != nil {
		t.Errorf("the leader has a leader: %v, %v", ok, err)
	}
}

func TestXattrsSpillAndReadBack(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	a := meta.Attr{Type: meta.File, Xattrs: []meta.Xattr{{Name: "user.big", Value: make([]byte, 60000)}, {Name: "user.small", Value: []byte("x")}}}
	want := slices.Clone(a.Xattrs)
	if err := meta.SpillXattrs(ctx, b, &a); err != nil {
		t.Fatal(err)
	}
	if a.Xattrs != nil || !a.XattrsAt.Defined() {
		t.Fatal("60000 bytes of xattrs stayed in the row")
	}
	got, err := meta.ReadXattrs(ctx, b, a)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("xattrs differ (-written +read):\n%s", diff)
	}
}

func TestWritersRefuseWhatReadersWould(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	file := meta.Attr{Type: meta.File}
	for name, rows := range map[string][]meta.Row{
		"slash":         {{Name: "a/b", Attr: file}},
		"dot dot":       {{Name: "..", Attr: file}},
		"empty":         {{Name: "", Attr: file}},
		"NUL":           {{Name: "a\x00", Attr: file}},
		"long":          {{Name: strings.Repeat("x", 256), Attr: file}},
		"out of order":  {{Name: "b", Attr: file}, {Name: "a", Attr: file}},
		"twice":         {{Name: "a", Attr: file}, {Name: "a", Attr: file}},
		"type":          {{Name: "a", Attr: meta.Attr{Type: 7}}},
		"mode":          {{Name: "a", Attr: meta.Attr{Mode: 0o10000}}},
		"nanoseconds":   {{Name: "a", Attr: meta.Attr{Nsec: 1e9}}},
		"sparse dir":    {{Name: "a", Attr: meta.Attr{Type: meta.Dir, Sparse: true}}},
		"device number": {{Name: "a", Attr: meta.Attr{Major: 1}}},
		"count":         {{Name: "a", Attr: meta.Attr{Type: meta.Dir, Below: 1}}},
		"xattr order":   {{Name: "a", Attr: meta.Attr{Xattrs: []meta.Xattr{{Name: "b"}, {Name: "a"}}}}},
	} {
		if _, _, err := meta.WriteDir(ctx, b, rows); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if _, err := meta.WriteRoot(ctx, b, file, nil); err == nil {
		t.Error("a file as root: written")
	}
	if _, err := meta.WriteRoot(ctx, b, meta.Attr{Type: meta.Dir}, []meta.Hardlink{{Path: "a", Leader: "b"}}); err == nil {
		t.Error("a leader after its path: written")
	}
}

func TestReadersRefuseOtherNodes(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	other, err := dagcbor.Encode(map[string]string{"kind": "volary/meta/2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, other); err != nil {
		t.Fatal(err)
	}
	if _, err := meta.ReadRoot(ctx, b, other.Cid()); !errors.Is(err, snapshot.ErrFormat) {
		t.Errorf("read root: %v, want ErrFormat", err)
	}
	for _, err := range meta.Rows(ctx, b, other.Cid()) {
		if !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("read rows: %v, want ErrFormat", err)
		}
	}
}
