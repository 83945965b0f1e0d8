package importer

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/blockstest"
)

// null takes blocks and keeps none: what is measured is the importer.
type null struct{ *blockstest.Memory }

func (null) Put(context.Context, ...blocks.Block) error { return nil }

// BenchmarkImport imports the directory that VOLARY_BENCH_DIR names, the Go toolchain's own without it: first
// without a cache, then unchanged with one.
func BenchmarkImport(b *testing.B) {
	dir := os.Getenv("VOLARY_BENCH_DIR")
	if dir == "" {
		dir = filepath.Join(goroot(b), "src")
	}
	store := null{blockstest.NewMemory()}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			r, err := Import(b.Context(), store, dir, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(r.Commit.Stats.Bytes))
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		cache := newMemory()
		cache.trusting = true
		for range 2 {
			if _, err := Import(b.Context(), store, dir, Options{Cache: cache}); err != nil {
				b.Fatal(err)
			}
		}
		for b.Loop() {
			var p Progress
			if _, err := Import(b.Context(), store, dir, Options{Cache: cache, Progress: &p}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(p.Cached.Load()), "cached")
		}
	})
}
