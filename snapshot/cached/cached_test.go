package cached_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/cached"
)

func open(t *testing.T, slow snapshot.Blocks, dir string, size int64) *cached.Blocks {
	t.Helper()
	b, err := cached.Open(slow, dir, cached.Options{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func slow(t *testing.T, bs ...blocks.Block) *blockstest.Memory {
	t.Helper()
	m := blockstest.NewMemory()
	if err := m.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t *testing.T, b snapshot.Blocks, bs ...blocks.Block) {
	t.Helper()
	for _, want := range bs {
		got, err := b.Get(t.Context(), want.Cid())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.RawData(), want.RawData()) {
			t.Fatalf("%s is another block", want.Cid())
		}
	}
}

// used is what the directory's files take.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, name := range names {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed while this looked
		}
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

func TestConformance(t *testing.T) {
	for name, size := range map[string]int64{"of the usual size": 0, "of hardly any": 10_000} {
		t.Run(name, func(t *testing.T) {
			blockstest.Run(t, func(t *testing.T) snapshot.Blocks { return open(t, slow(t), t.TempDir(), size) })
		})
	}
}

func TestACacheStaysInItsBound(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	bs := append(blockstest.Random(1, 500, 20_000), blockstest.Random(2, 5, 600<<10)...)
	b := open(t, slow(t, bs...), dir, size)
	for i, blk := range bs {
		read(t, b, blk)
		if n := used(t, dir); n > size || n != b.Stats().Bytes {
			t.Fatalf("after %d blocks %d bytes are used and %d counted, of %d", i, n, b.Stats().Bytes, size)
		}
	}
	if s := b.Stats(); s.Unwritten != 0 || s.Blocks == 0 {
		t.Fatalf("%+v", s)
	}
}

func TestWhatIsReadAllTheTimeStays(t *testing.T) {
	hot, cold := blockstest.Random(3, 10, 5000), blockstest.Random(4, 1000, 5000)
	b := open(t, slow(t, append(hot, cold...)...), t.TempDir(), 1<<20)
	read(t, b, hot...)
	for i, blk := range cold {
		read(t, b, blk)
		read(t, b, hot[i%len(hot)])
	}
	if s := b.Stats(); s.Misses != uint64(len(hot)+len(cold)) || s.Hits != uint64(len(cold)) {
		t.Fatalf("%d hits and %d misses, want %d and %d", s.Hits, s.Misses, len(cold), len(hot)+len(cold))
	}
}

func TestACacheIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	bs := blockstest.Random(5, 100, 3000)
	m := slow(t, bs...)
	b := open(t, m, dir, 1<<20)
	read(t, b, bs...)
	if _, err := cached.Open(m, dir, cached.Options{}); !errors.Is(err, cached.ErrLocked) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, slow(t), dir, 1<<20)
	read(t, b, bs...)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, m, dir, 100_000)
	if n := used(t, dir); n > 100_000 {
		t.Fatalf("%d bytes after the bound was lowered", n)
	}
	read(t, b, bs...)
}

// What a crash or a disk does to the files costs time and nothing else.
func TestADamagedCacheIsNeverWrong(t *testing.T) {
	bs := blockstest.Random(6, 100, 3000)
	for name, harm := range map[string]func(data []byte) []byte{
		"cut":              func(d []byte) []byte { return d[:len(d)*2/3] },
		"empty":            func([]byte) []byte { return nil },
		"zeros at the end": func(d []byte) []byte { clear(d[len(d)/2:]); return d },
		"other bytes": func(d []byte) []byte {
			for i := 50; i < len(d); i += 1777 {
				d[i]++
			}
			return d
		},
		"a frame that is not there": func(d []byte) []byte { return append(d, 0x22, 0xff, 0xff) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := slow(t, bs...)
			b := open(t, m, dir, 1<<20)
			read(t, b, bs...)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			names, err := filepath.Glob(filepath.Join(dir, "*.segment"))
			if err != nil || len(names) == 0 {
				t.Fatalf("segments %v, %v", names, err)
			}
			for _, name := range names {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, harm(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b = open(t, m, dir, 1<<20)
			read(t, b, bs...)
			if s := b.Stats(); s.Misses+s.Damaged == 0 && name != "a frame that is not there" {
				t.Fatal("the harm did none")
			}
			hits := b.Stats().Hits
			read(t, b, bs...)
			if got := b.Stats().Hits - hits; got != uint64(len(bs)) {
				t.Fatalf("%d hits once all was got again, want %d", got, len(bs))
			}
		})
	}
}

func TestManyReadersWhileBlocksAreRemoved(t *testing.T) {
	dir := t.TempDir()
	bs := blockstest.Random(7, 400, 10_000)
	b := open(t, slow(t, bs...), dir, 500_000)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range bs {
				want := bs[(i*(g+1))%len(bs)]
				got, err := b.Get(t.Context(), want.Cid())
				if err != nil || !bytes.Equal(got.RawData(), want.RawData()) {
					t.Errorf("get: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := used(t, dir); n > 500_000 {
		t.Fatalf("%d bytes", n)
	}
}
