package tree_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	ft "github.com/ipfs/boxo/ipld/unixfs"
	format "github.com/ipfs/go-ipld-format"

	"github.com/volary/volary/snapshot"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
)

func TestAReaderReadsAndSeeksLikeAFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 10_000)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	n := tt.File(string(data))
	n.ChunkSize = 777
	b := tt.NewMemory()
	s := open(t, b, tt.Tree(t, b, tt.Dir(map[string]tt.Node{"f": n, "empty": tt.File("")})))
	for path, want := range map[string][]byte{"f": data, "empty": nil} {
		e, err := s.Lookup(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Reader(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		var copied bytes.Buffer
		if _, err := io.Copy(&copied, r); err != nil || !bytes.Equal(copied.Bytes(), want) {
			t.Errorf("%s: read %d bytes, %v", path, copied.Len(), err)
		}
		twin := bytes.NewReader(want)
		for range 200 {
			at := rng.Int64N(int64(len(want)) + 10)
			p, q := make([]byte, rng.IntN(2000)), make([]byte, 2000)
			if _, err := r.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadFull(r, p)
			exp, experr := twin.ReadAt(q[:len(p)], at)
			if got != exp || !bytes.Equal(p[:got], q[:exp]) || len(p) > 0 && (err == nil) != (experr == nil) {
				t.Fatalf("%s at %d: %d %v, want %d %v", path, at, got, err, exp, experr)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAReaderNamesTheMissingChunkAndEndsWhenCancelled(t *testing.T) {
	n := tt.File(strings.Repeat("abc", 1000))
	n.ChunkSize = 100
	b := tt.NewMemory()
	s := open(t, b, tt.Tree(t, b, tt.Dir(map[string]tt.Node{"f": n})))
	e, err := s.Lookup(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	r, err := s.Reader(cancelled, e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 150); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}

	gone := unixfs.Leaf([]byte(strings.Repeat("abc", 34)[1:101])).Cid()
	b.Lose(gone)
	if r, err = s.Reader(ctx, e); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, snapshot.ErrNotFound) || !strings.Contains(err.Error(), gone.String()) {
		t.Errorf("missing: %v", err)
	}
}

func TestAOneBlockFileThatLiesAboutItsSizeIsReadAsItIs(t *testing.T) {
	b := tt.NewMemory()
	leaf := unixfs.Leaf([]byte("content"))
	if err := b.Put(ctx, leaf); err != nil {
		t.Fatal(err)
	}
	dir := dagNode(t, b, ft.FolderPBData(), format.Link{Name: "f", Cid: leaf.Cid(), Size: 3})
	s := open(t, b, dir)
	e, err := s.Lookup(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Reader(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	huge := dagNode(t, b, ft.FolderPBData(), format.Link{Name: "f", Cid: leaf.Cid(), Size: 1 << 60})
	if _, err := open(t, b, huge).Lookup(ctx, "f"); !errors.Is(err, snapshot.ErrFormat) {
		t.Errorf("a block of 2^60 bytes: %v", err)
	}
}
