package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"golang.org/x/sync/errgroup"
)

// columns are seconds where nothing else is said; ingest is durable at its end.
var columns = []string{"ingest", "ingest CPU", "open ms", "cold read", "warm read", "restore", "space MiB", "gc half", "space after MiB"}

// workers put and read at once.
const workers = 2

// A contender keeps blocks. It is opened twice on one directory: to be filled, then to be read.
type contender interface {
	put(ctx context.Context, bs []blocks.Block) error
	sync(ctx context.Context) error
	get(ctx context.Context, b blocks.Block, buf []byte) ([]byte, error) // verified
	collect(ctx context.Context, live, dead []blocks.Block) error
	close() error
}

func measure(dir, store, what string) (map[string]float64, error) {
	bs, err := load(what)
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "store-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	runtime.GC()
	syscall.Sync()
	r := make(map[string]float64)
	ctx := context.Background()
	s, err := openers[store](dir)
	if err != nil {
		return nil, err
	}
	cpu := cpuTime()
	r["ingest"], err = timed(func() error { return ingest(ctx, s, bs) })
	if err != nil {
		return nil, err
	}
	r["ingest CPU"] = cpuTime() - cpu
	if err := s.close(); err != nil {
		return nil, err
	}
	if r["space MiB"], err = space(dir); err != nil {
		return nil, err
	}
	opened, err := timed(func() error { s, err = openers[store](dir); return err })
	if err != nil {
		return nil, err
	}
	r["open ms"] = opened * 1000
	if err := reads(ctx, s, bs, r); err != nil {
		return nil, err
	}
	if err := collect(ctx, s, bs, r); err != nil {
		return nil, err
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	r["space after MiB"], err = space(dir)
	return r, err
}

// ingest puts small blocks in batches of 64 and large ones one by one, as an importer does.
func ingest(ctx context.Context, s contender, bs []blocks.Block) error {
	var g errgroup.Group
	var next atomic.Int64
	const batch = 64
	for range workers {
		g.Go(func() error {
			for {
				from := int(next.Add(batch)) - batch
				if from >= len(bs) {
					return nil
				}
				part := bs[from:min(from+batch, len(bs))]
				for len(part) > 0 {
					n, size := 0, 0
					for n < len(part) && size < chunk {
						size += len(part[n].RawData())
						n++
					}
					if err := s.put(ctx, part[:n]); err != nil {
						return err
					}
					part = part[n:]
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.sync(ctx)
}

func reads(ctx context.Context, s contender, bs []blocks.Block, r map[string]float64) error {
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(bs))
	inOrder := func(i int) int { return i }
	shuffled := func(i int) int { return order[i] }
	for _, phase := range []struct {
		name string
		cold bool
		at   func(int) int
	}{{"cold read", true, shuffled}, {"restore", true, inOrder}, {"warm read", false, shuffled}} {
		if phase.cold {
			if err := dropCaches(); err != nil {
				return err
			}
		}
		var err error
		r[phase.name], err = timed(func() error { return read(ctx, s, bs, phase.at) })
		if err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
	}
	return nil
}

func read(ctx context.Context, s contender, bs []blocks.Block, at func(int) int) error {
	var g errgroup.Group
	var next atomic.Int64
	for range workers {
		g.Go(func() error {
			buf := make([]byte, 0, chunk)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(bs) {
					return nil
				}
				b := bs[at(i)]
				data, err := s.get(ctx, b, buf)
				if err != nil {
					return err
				}
				if len(data) != len(b.RawData()) {
					return fmt.Errorf("%s: %d bytes", b.Cid(), len(data))
				}
			}
		})
	}
	return g.Wait()
}

func collect(ctx context.Context, s contender, bs []blocks.Block, r map[string]float64) error {
	var live, dead []blocks.Block
	for i, b := range bs {
		if i%2 == 0 {
			live = append(live, b)
		} else {
			dead = append(dead, b)
		}
	}
	var err error
	r["gc half"], err = timed(func() error { return s.collect(ctx, live, dead) })
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return read(ctx, s, live, func(i int) int { return i })
}

func timed(f func() error) (float64, error) {
	t := time.Now()
	err := f()
	return time.Since(t).Seconds(), err
}

func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// space is what the filesystem has allocated, in MiB.
func space(dir string) (float64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			n += fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return float64(n) / (1 << 20), err
}
