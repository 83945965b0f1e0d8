package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	gosync "sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func open(t *testing.T, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStoreKeepsTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks { return open(t, t.TempDir(), store.Options{}) })
}

func TestStoreOfSmallPacksKeepsTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks { return open(t, t.TempDir(), store.Options{PackSize: 10 << 10}) })
}

func TestSessionKeepsTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
		x, err := open(t, t.TempDir(), store.Options{}).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	})
}

func put(t *testing.T, b snapshot.Blocks, bs ...blocks.Block) {
	t.Helper()
	if err := b.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
}

func sync(t *testing.T, b snapshot.Blocks) {
	t.Helper()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantAll(t *testing.T, b snapshot.Blocks, bs []blocks.Block) {
	t.Helper()
	for i, k := range bs {
		got, err := b.Get(t.Context(), k.Cid())
		if err != nil {
			t.Fatalf("block %d of %d: %v", i, len(bs), err)
		}
		if !bytes.Equal(got.RawData(), k.RawData()) {
			t.Fatalf("block %d of %d: other bytes", i, len(bs))
		}
	}
}

func wantNone(t *testing.T, b snapshot.Blocks, bs []blocks.Block) {
	t.Helper()
	for i, k := range bs {
		if _, err := b.Get(t.Context(), k.Cid()); !errors.Is(err, snapshot.ErrNotFound) {
			t.Fatalf("block %d of %d: %v, want not found", i, len(bs), err)
		}
	}
}

// wantCount checks that the store claims n blocks, and that all it claims is sound.
func wantCount(t *testing.T, s *store.Store, n int) {
	t.Helper()
	got := 0
	for c, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), c); err != nil {
			t.Fatalf("claimed: %v", err)
		}
		got++
	}
	if n >= 0 && got != n {
		t.Fatalf("%d blocks, want %d", got, n)
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Blocks != int64(got) {
		t.Fatalf("stats %+v, %v; listed %d", st, err, got)
	}
}

func packs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "packs", "*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// spoil changes a byte of a block in the packs of a store.
func spoil(dir string, b blocks.Block) error {
	files, err := filepath.Glob(filepath.Join(dir, "packs", "*.pack"))
	if err != nil {
		return err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(data, b.RawData())
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{data[at] ^ 1}, int64(at))
		return err
	}
	return fmt.Errorf("block %s is in no pack", b.Cid())
}

func TestDamagedBytesAreNeverReturnedAndCanBeReplaced(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 3, 5000)
	put(t, s, bs...)
	sync(t, s)
	if err := spoil(dir, bs[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), bs[1].Cid()); !errors.Is(err, snapshot.ErrDamaged) {
		t.Fatalf("got %v, want damaged", err)
	}
	put(t, s, bs[1])
	if _, err := s.Get(t.Context(), bs[1].Cid()); !errors.Is(err, snapshot.ErrDamaged) {
		t.Fatalf("a block that is indexed was put again: %v", err)
	}
	if err := s.Drop(t.Context(), bs[1].Cid()); err != nil {
		t.Fatal(err)
	}
	wantNone(t, s, bs[1:2])
	put(t, s, bs[1])
	wantAll(t, s, bs)
	for range 2 { // it may be in no index yet, or in it
		if err := s.Drop(t.Context(), bs[1].Cid()); err != nil {
			t.Fatal(err)
		}
		wantAll(t, s, bs)
	}
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	wantAll(t, s, bs)
}

func TestRecordsAreSetTogetherAndListedInOrder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	set := func(recs map[string][]byte) {
		t.Helper()
		if err := s.SetRecords(t.Context(), recs); err != nil {
			t.Fatal(err)
		}
	}
	set(map[string][]byte{"a/2": []byte("two"), "a/1": []byte("one"), "b/1": {}, "a\xff": []byte("x")})
	set(map[string][]byte{"a/3": []byte("three"), "a/2": nil})
	check := func() {
		t.Helper()
		var got []string
		err := s.Records(t.Context(), "a/", func(key string, value []byte) error {
			got = append(got, key+"="+string(value))
			return nil
		})
		if err != nil || fmt.Sprint(got) != "[a/1=one a/3=three]" {
			t.Errorf("records %v, %v", got, err)
		}
		if v, err := s.Record(t.Context(), "b/1"); err != nil || v == nil || len(v) != 0 {
			t.Errorf("an empty record is %v, %v", v, err)
		}
		if v, err := s.Record(t.Context(), "a/2"); err != nil || v != nil {
			t.Errorf("a deleted record is %q, %v", v, err)
		}
	}
	check()
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	check()
}

func TestABlockPutBehindTheIndexIsFoundOnlyOnce(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	bs := blockstest.Random(1, 1000, 200)
	var wg gosync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range bs {
				if err := s.Put(t.Context(), bs[i]); err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					if err := s.Sync(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	st, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(bs) * (200 + 16 + 36)); st.Disk != want {
		t.Errorf("packs take %d bytes, want %d: blocks were written twice", st.Disk, want)
	}
}
