package meta_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/meta"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden returns one encoded node of each form, under the name of its file.
func golden(t testing.TB) map[string]blocks.Block {
	t.Helper()
	ctx, b := context.Background(), blockstest.NewMemory()
	get := func(c cid.Cid, err error) blocks.Block {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		blk, err := b.Get(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return blk
	}
	rows, _, err := meta.WriteDir(ctx, b, sorted(everyKind(t)))
	rowsBlock := get(rows, err)
	index, _, err := meta.WriteDir(ctx, b, manyRows(9000))
	indexBlock := get(index, err)
	a := meta.Attr{Type: meta.File, Xattrs: []meta.Xattr{{Name: "user.big", Value: bytes.Repeat([]byte("v"), 2000)}}}
	if err := meta.SpillXattrs(ctx, b, &a); err != nil {
		t.Fatal(err)
	}
	root, err := meta.WriteRoot(ctx, b, meta.Attr{Type: meta.Dir, Mode: 0o755, Below: 13, Entries: rows},
		[]meta.Hardlink{{Path: "b", Leader: "a"}, {Path: "dir/c", Leader: "a"}})
	rootBlock := get(root, err)
	read, err := meta.ReadRoot(ctx, b, root)
	return map[string]blocks.Block{
		"rows": rowsBlock, "index": indexBlock, "xattrs": get(a.XattrsAt, nil), "root": rootBlock,
		"hardlinks": get(read.Hardlinks, err),
	}
}

func TestFormatsEqualTheGoldenFiles(t *testing.T) {
	for name, blk := range golden(t) {
		file := filepath.Join("testdata", "golden", name+".cbor")
		if *update {
			if err := os.WriteFile(file, blk.RawData(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, blk.RawData()) {
			t.Errorf("%s: a published format has changed", name)
		}
	}
}

// single is a store of one block, the one under test.
type single struct{ blk blocks.Block }

func (s single) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	if c != s.blk.Cid() {
		return nil, snapshot.ErrNotFound
	}
	return s.blk, nil
}

func hostile(t *testing.T, data []byte) single {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: -1}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	blk, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return single{blk}
}

func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, snapshot.ErrFormat) && !errors.Is(err, snapshot.ErrNotFound) {
		t.Fatalf("refused with %v, want ErrFormat", err)
	}
}

func FuzzRowsReencodeToTheSameBytes(f *testing.F) {
	f.Add(golden(f)["rows"].RawData())
	f.Add(golden(f)["index"].RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, s := context.Background(), hostile(t, data)
		var rows []meta.Row
		for row, err := range meta.Rows(ctx, s, s.blk.Cid()) {
			if err != nil {
				refused(t, err)
				return
			}
			rows = append(rows, row)
		}
		again, _, err := meta.WriteDir(ctx, blockstest.NewMemory(), rows)
		if err != nil || again != s.blk.Cid() {
			t.Fatalf("what was read is written as %s, %v; want %s", again, err, s.blk.Cid())
		}
	})
}

func FuzzHardlinksReencodeToTheSameBytes(f *testing.F) {
	f.Add(golden(f)["hardlinks"].RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, s := context.Background(), hostile(t, data)
		var links []meta.Hardlink
		for l, err := range meta.Hardlinks(ctx, s, s.blk.Cid()) {
			if err != nil {
				refused(t, err)
				return
			}
			links = append(links, l)
		}
		b := blockstest.NewMemory()
		root, err := meta.WriteRoot(ctx, b, meta.Attr{Type: meta.Dir}, links)
		if err != nil {
			t.Fatal(err)
		}
		read, err := meta.ReadRoot(ctx, b, root)
		if err != nil || read.Hardlinks != s.blk.Cid() {
			t.Fatalf("what was read is written as %s, %v; want %s", read.Hardlinks, err, s.blk.Cid())
		}
	})
}

func FuzzRootIsCanonicalOrRefused(f *testing.F) {
	f.Add(golden(f)["root"].RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, s := context.Background(), hostile(t, data)
		root, err := meta.ReadRoot(ctx, s, s.blk.Cid())
		if err != nil {
			refused(t, err)
			return
		}
		if root.Hardlinks.Defined() {
			return // the table is another block, which only its own target has
		}
		again, err := meta.WriteRoot(ctx, blockstest.NewMemory(), root.Attr, nil)
		if err != nil || again != s.blk.Cid() {
			t.Fatalf("what was read is written as %s, %v; want %s", again, err, s.blk.Cid())
		}
	})
}

func FuzzXattrsReencodeToTheSameBytes(f *testing.F) {
	f.Add(golden(f)["xattrs"].RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, s := context.Background(), hostile(t, data)
		xs, err := meta.ReadXattrs(ctx, s, meta.Attr{XattrsAt: s.blk.Cid()})
		if err != nil {
			refused(t, err)
			return
		}
		a := meta.Attr{Type: meta.File, Xattrs: xs}
		if err := meta.SpillXattrs(ctx, blockstest.NewMemory(), &a); err != nil {
			t.Fatal(err)
		}
		if a.XattrsAt != s.blk.Cid() {
			t.Fatalf("what was read is written as %v; want %s", a.XattrsAt, s.blk.Cid())
		}
	})
}
