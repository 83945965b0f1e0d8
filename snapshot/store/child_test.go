package store_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/snapshot/store"
)

// child is what the children of the tests do in their own process; they tell on stdout what was acknowledged.
func child(what, dir string) error {
	ctx := context.Background()
	switch what {
	case "hold":
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			return err
		}
		defer s.Close()
		fmt.Println("open")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	case "put":
		return childPut(ctx, dir)
	case "steps":
		return childSteps(ctx, dir, os.Getenv("STORE_STEP"))
	}
	return fmt.Errorf("unknown child %q", what)
}

// childPut puts blocks for ever, and says "put N" after each N-th Put returned, "sync N" after Sync.
func childPut(ctx context.Context, dir string) error {
	s, err := store.Open(dir, store.Options{PackSize: 1 << 20})
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(os.Getenv("STORE_FROM"))
	if err != nil {
		return err
	}
	for n := from; ; n++ {
		if err := s.Put(ctx, putBatch(n)...); err != nil {
			return err
		}
		fmt.Println("put", n)
		if n%7 == 6 {
			if err := s.Sync(ctx); err != nil {
				return err
			}
		}
	}
}

// stopAt returns a Step that ends the machine's or the process's life when a label is reached for the n-th
// time: "label", "label:n"; with STORE_POWER it first takes the filesystem away, as a power cut would.
func stopAt(at string) func(string) {
	label, nth, _ := strings.Cut(at, ":")
	n, err := strconv.Atoi(nth)
	if err != nil {
		n = 1
	}
	var seen atomic.Int64
	return func(reached string) {
		if reached != label || seen.Add(1) != int64(n) {
			return
		}
		if mount := os.Getenv("STORE_POWER"); mount != "" {
			if err := disktest.Cut(mount, disktest.NoLogFlush); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(3)
			}
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// childSteps goes through all steps: three rounds of a pinned and a loose set of blocks, each synced,
// recorded, then the loose ones collected. It says "kept N", "record N" and "swept N" when these were
// acknowledged. Each round ends with a store that loses packs: "lost N" and "healed N" tell of that.
func childSteps(ctx context.Context, dir, at string) error {
	step := stopAt(at)
	s, err := store.Open(dir, store.Options{PackSize: 100 << 10, Step: step})
	if err != nil {
		return err
	}
	for n := range 3 {
		if err := stepsRound(ctx, s, dir, n); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		if err := lossRound(ctx, lossyDir(dir, n), n, step); err != nil {
			return fmt.Errorf("loss %d: %w", n, err)
		}
	}
	return s.Close()
}

func lossyDir(dir string, n int) string { return fmt.Sprint(dir, "-lossy-", n) }

// lossRound makes a store, takes a pack and the end of another away from it, and collects and heals it.
func lossRound(ctx context.Context, dir string, n int, step func(string)) error {
	root, bs := lossyBlocks(n)
	s, err := store.Open(dir, store.Options{PackSize: 1})
	if err != nil {
		return err
	}
	defer s.Close()
	x, err := s.Session(ctx)
	if err != nil {
		return err
	}
	for _, run := range [][]blocks.Block{bs[:3], bs[3:], {root}} {
		if err := x.Put(ctx, run...); err != nil {
			return err
		}
	}
	if err := x.SaveStat(ctx, []store.StatRecord{{Key: []byte("dir"), Value: []byte("v"), Roots: []cid.Cid{root.Cid()}}}); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := os.Truncate(packFile(dir, 1), 3*lossyFrame-1); err != nil {
		return err
	}
	if err := os.Remove(packFile(dir, 2)); err != nil {
		return err
	}
	fmt.Println("lost", n)
	if s, err = store.Open(dir, store.Options{PackSize: 1, Step: step}); err != nil {
		return err
	}
	defer s.Close()
	sw, err := s.BeginSweep(ctx)
	if err != nil {
		return err
	}
	defer sw.Close()
	for _, b := range append(bs[1:], root) {
		if _, _, err := sw.Mark(ctx, b.Cid()); err != nil {
			return err
		}
	}
	if _, _, err := sw.Remove(ctx, false, nothing); err != nil {
		return err
	}
	if _, err := sw.Compact(ctx); err != nil {
		return err
	}
	if err := s.Put(ctx, bs[2:]...); err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	fmt.Println("healed", n)
	return s.Close()
}

func stepsRound(ctx context.Context, s *store.Store, dir string, n int) error {
	x, err := s.Session(ctx)
	if err != nil {
		return err
	}
	defer x.Close()
	kept, loose := keptBlocks(n), looseBlocks(n)
	for i := range kept {
		if err := x.Put(ctx, kept[i], loose[i]); err != nil {
			return err
		}
	}
	root := blockstest.Block(cid.DagCBOR, fmt.Appendf(nil, "root %d", n))
	if err := x.Put(ctx, root, damaged(n)); err != nil {
		return err
	}
	if err := x.SaveStat(ctx, []store.StatRecord{{Key: []byte("dir"), Value: []byte("v"), Roots: []cid.Cid{root.Cid()}}}); err != nil {
		return err
	}
	if err := x.Sync(ctx); err != nil {
		return err
	}
	fmt.Println("kept", n)
	if err := s.SetRecords(ctx, map[string][]byte{recordName(n): []byte("v")}); err != nil {
		return err
	}
	fmt.Println("record", n)
	if err := spoil(dir, damaged(n)); err != nil {
		return err
	}
	if err := s.Drop(ctx, damaged(n).Cid()); err != nil {
		return err
	}
	fmt.Println("dropped", n)
	x.Close()
	sw, err := s.BeginSweep(ctx)
	if err != nil {
		return err
	}
	defer sw.Close()
	for r := range n + 1 {
		for _, b := range keptBlocks(r) {
			if _, _, err := sw.Mark(ctx, b.Cid()); err != nil {
				return err
			}
		}
	}
	if _, _, err := sw.Remove(ctx, false, nothing); err != nil {
		return err
	}
	fmt.Println("swept", n)
	_, err = sw.Compact(ctx)
	return err
}
