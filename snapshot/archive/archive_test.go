package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/archive"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
)

// fan is a DAG of a root and n leaves.
func fan(t testing.TB, n int) (*blockstest.Memory, cid.Cid) {
	t.Helper()
	ctx, b := context.Background(), blockstest.NewMemory()
	var links []dagcbor.Link
	for i := range n {
		blk, err := dagcbor.Encode(fmt.Sprintf("leaf %d", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(ctx, blk); err != nil {
			t.Fatal(err)
		}
		links = append(links, dagcbor.Link{Cid: blk.Cid()})
	}
	root, err := dagcbor.Encode(links)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, root); err != nil {
		t.Fatal(err)
	}
	return b, root.Cid()
}

func exported(t testing.TB, b snapshot.Blocks, root cid.Cid) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := archive.Export(context.Background(), b, root, &buf, nil); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func whole(t *testing.T, b snapshot.Blocks, root cid.Cid) int {
	t.Helper()
	n := 0
	err := snapshot.WalkDAG(context.Background(), b, []cid.Cid{root}, func(c cid.Cid, _ blocks.Block, err error) error {
		n++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestArchiveBringsEveryBlock(t *testing.T) {
	src, root := fan(t, 100)
	dst := blockstest.NewMemory()
	res, err := archive.Import(context.Background(), dst, bytes.NewReader(exported(t, src, root)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Roots) != 1 || res.Roots[0] != root || res.Blocks != 101 {
		t.Errorf("imported %+v", res)
	}
	if n := whole(t, dst, root); n != 101 {
		t.Errorf("%d blocks arrived, want 101", n)
	}
}

func TestArchiveOfADAGIsAlwaysTheSame(t *testing.T) {
	src, root := fan(t, 50)
	if !bytes.Equal(exported(t, src, root), exported(t, src, root)) {
		t.Error("two exports differ")
	}
}

func TestVersion2IsRead(t *testing.T) {
	src, root := fan(t, 10)
	v1 := filepath.Join(t.TempDir(), "v1.car")
	if err := os.WriteFile(v1, exported(t, src, root), 0o644); err != nil {
		t.Fatal(err)
	}
	v2 := v1 + ".v2"
	if err := car.WrapV1File(v1, v2); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(v2)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dst := blockstest.NewMemory()
	if _, err := archive.Import(context.Background(), dst, struct{ io.Reader }{f}, nil); err != nil {
		t.Fatal(err)
	}
	if n := whole(t, dst, root); n != 11 {
		t.Errorf("%d blocks arrived, want 11", n)
	}
}

func TestTruncatedArchiveIsIncompleteWhereverItEnds(t *testing.T) {
	src, root := fan(t, 5)
	data := exported(t, src, root)
	for n := range data {
		_, err := archive.Import(context.Background(), blockstest.NewMemory(), bytes.NewReader(data[:n]), nil)
		if !errors.Is(err, archive.ErrIncomplete) && !errors.Is(err, snapshot.ErrFormat) {
			t.Fatalf("cut at %d of %d: %v, want ErrIncomplete or ErrFormat", n, len(data), err)
		}
	}
}

func TestChangedByteIsNoticed(t *testing.T) {
	src, root := fan(t, 5)
	data := exported(t, src, root)
	data[len(data)-1] ^= 1
	_, err := archive.Import(context.Background(), blockstest.NewMemory(), bytes.NewReader(data), nil)
	if !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("%v, want ErrDamaged", err)
	}
}

func TestArchiveMayLackWhatTheStoreHas(t *testing.T) {
	src, root := fan(t, 5)
	dst, _ := fan(t, 5)
	blk, err := src.Get(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	only := blockstest.NewMemory()
	if err := only.Put(context.Background(), blk); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := archive.Export(context.Background(), only, root, &buf, nil); !errors.Is(err, snapshot.ErrNotFound) {
		t.Fatalf("export of an incomplete DAG: %v, want ErrNotFound", err)
	}
	if _, err := archive.Import(context.Background(), dst, bytes.NewReader(exported(t, src, root)), nil); err != nil {
		t.Error(err)
	}
}

func FuzzImportIsRefusedOrWhole(f *testing.F) {
	src, root := fan(f, 3)
	f.Add(exported(f, src, root))
	f.Fuzz(func(t *testing.T, data []byte) {
		dst := blockstest.NewMemory()
		res, err := archive.Import(context.Background(), dst, bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		for _, r := range res.Roots {
			whole(t, dst, r)
		}
	})
}
