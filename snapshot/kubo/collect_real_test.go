//go:build real

package kubo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

func wantThere(t *testing.T, b snapshot.Blocks, want bool, bs ...blocks.Block) {
	t.Helper()
	cs := make([]cid.Cid, len(bs))
	for i, blk := range bs {
		cs[i] = blk.Cid()
	}
	has, err := b.Has(t.Context(), cs...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range has {
		if has[i] != want {
			t.Fatalf("block %d of %d, %s: there is %v, want %v", i, len(bs), cs[i], has[i], want)
		}
	}
}

// commit imports n files and puts the commit.
func commit(t *testing.T, b snapshot.Blocks, n int) cid.Cid {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "file %d of %d", i, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blk, err := importDir(t.Context(), b, dir)
	if err != nil {
		t.Fatal(err)
	}
	return blk.Cid()
}

func importDir(ctx context.Context, b snapshot.Blocks, dir string) (blocks.Block, error) {
	res, err := importer.Import(ctx, b, dir, importer.Options{})
	if err != nil {
		return nil, err
	}
	res.Commit.Time, res.Commit.Sequence = time.Unix(1, 0), 1
	blk, err := snapshot.EncodeCommit(res.Commit)
	if err != nil {
		return nil, err
	}
	return blk, b.Put(ctx, blk)
}

func wantWhole(t *testing.T, b snapshot.Blocks, root cid.Cid) {
	t.Helper()
	err := snapshot.WalkDAG(t.Context(), b, []cid.Cid{root}, func(c cid.Cid, _ blocks.Block, err error) error {
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func gc(t *testing.T, d *kubotest.Daemon) {
	t.Helper()
	run(t, d, "repo", "gc", "--quiet")
}

func TestASessionHoldsWhatItPutsAndFindsUntilItsEnd(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d)
	before := blockstest.Random(1, 100, 2000)
	if err := b.Put(t.Context(), before...); err != nil {
		t.Fatal(err)
	}
	x := b.Session()
	wantThere(t, x, true, before[:70]...)
	bs := blockstest.Random(2, 300, 5000)
	for len(bs) > 0 {
		if err := x.Put(t.Context(), bs[:100]...); err != nil {
			t.Fatal(err)
		}
		gc(t, d)
		wantThere(t, b, true, bs[:100]...)
		bs = bs[100:]
	}
	wantThere(t, b, true, before[:70]...)
	wantThere(t, b, false, before[70:]...)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	gc(t, d)
	wantThere(t, b, false, blockstest.Random(2, 300, 5000)...)
	if ls := run(t, d, "files", "ls", "/"); strings.Contains(ls, "volary") {
		t.Fatalf("left in MFS: %s", ls)
	}
	if err := x.Put(t.Context(), before...); !errors.Is(err, ErrClosed) {
		t.Fatalf("put after the end: %v", err)
	}
}

func TestHoldTakesAllThatIsBelow(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d)
	root := commit(t, b, 30)
	x := session(t, b)
	if held, err := x.Hold(t.Context(), root, blockstest.Raw([]byte("nobody's")).Cid()); err != nil || !held[0] || held[1] {
		t.Fatalf("held %v, %v", held, err)
	}
	gc(t, d)
	wantWhole(t, b, root)
}

func TestASnapshotIsWholeWhileTheDaemonCollectsAllTheTime(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d, func(o *Options) { o.FetchTimeout = 5 * time.Second })
	ctx, stop := context.WithCancel(t.Context())
	var collector sync.WaitGroup
	collections := 0
	collector.Go(func() {
		for ctx.Err() == nil {
			if _, err := d.Run(t.Context(), "repo", "gc", "--quiet"); err != nil {
				t.Error(err)
				return
			}
			collections++
		}
	})
	x := session(t, b)
	root := commit(t, x, 3000)
	err := b.Keep(t.Context(), Keep{"host", "test", root})
	stop()
	collector.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if collections < 2 {
		t.Fatalf("only %d collections", collections)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	gc(t, d)
	wantWhole(t, b, root)
}

func TestWhatIsKeptStaysWhateverOthersUnpin(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d)
	root := commit(t, b, 10)
	mine := []Keep{{"host", "first", root}, {"host", "second", root}}
	for range 2 {
		for _, k := range mine {
			if err := b.Keep(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, d, "pin", "add", root.String())
	run(t, d, "pin", "rm", root.String())
	gc(t, d)
	wantWhole(t, b, root)
	n := 0
	for k, err := range b.Kept(t.Context()) {
		if err != nil || k != mine[0] && k != mine[1] {
			t.Fatalf("kept %v, %v", k, err)
		}
		n++
	}
	if n != len(mine) {
		t.Fatalf("%d are listed, want %d", n, len(mine))
	}
	if err := b.Release(t.Context(), mine[0]); err != nil {
		t.Fatal(err)
	}
	gc(t, d)
	wantWhole(t, b, root)
	for range 2 {
		if err := b.Release(t.Context(), mine[1]); err != nil {
			t.Fatal(err)
		}
	}
	gc(t, d)
	has, err := b.Has(t.Context(), root)
	if err != nil || has[0] {
		t.Fatalf("after release: %v, %v", has, err)
	}
}

func TestWhatIsKeptAfterAnotherIsWhole(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d, func(o *Options) { o.FetchTimeout = 2 * time.Second })
	keep := func(root cid.Cid) Keep { return Keep{"host", "head", root} }
	first, second, third := commit(t, b, 300), commit(t, b, 301), commit(t, b, 302)
	if err := b.KeepAfter(t.Context(), keep(first), cid.Undef); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.KeepAfter(t.Context(), keep(second), first); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Release(t.Context(), keep(first)); err != nil {
		t.Fatal(err)
	}
	if err := b.KeepAfter(t.Context(), keep(third), first); err != nil {
		t.Fatalf("after one that is not kept: %v", err)
	}
	gc(t, d)
	wantWhole(t, b, second)
	wantWhole(t, b, third)
	fourth := commit(t, b, 303)
	file := blockstest.Raw([]byte("file 302 of 303")).Cid()
	run(t, d, "block", "rm", file.String())
	err := b.KeepAfter(t.Context(), keep(fourth), third)
	if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), file.String()) {
		t.Fatalf("got %v, want unavailable that names %s", err, file)
	}
	for k, err := range b.Kept(t.Context()) {
		if err != nil || k == keep(fourth) || k == keep(first) {
			t.Fatalf("kept %v, %v", k, err)
		}
	}
}

func TestWhatIsNotWholeIsNotKept(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d, func(o *Options) { o.FetchTimeout = 2 * time.Second })
	root := commit(t, b, 10)
	blk, err := b.Get(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	links, err := snapshot.Links(blk)
	if err != nil {
		t.Fatal(err)
	}
	run(t, d, "block", "rm", links[0].String())
	err = b.Keep(t.Context(), Keep{"host", "test", root})
	if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), links[0].String()) {
		t.Fatalf("got %v, want unavailable that names %s", err, links[0])
	}
	if pins := run(t, d, "pin", "ls", "--type=recursive", "--names"); strings.Contains(pins, namePrefix) {
		t.Fatalf("pinned: %s", pins)
	}
}

func TestWhatADeadSessionHeldIsReleased(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b, other := open(t, d), open(t, d, func(o *Options) { o.Host = "other" })
	mine, theirs := blockstest.Random(1, 10, 100), blockstest.Random(2, 10, 100)
	if err := b.Session().Put(t.Context(), mine...); err != nil {
		t.Fatal(err)
	}
	x := session(t, other)
	if err := x.Put(t.Context(), theirs...); err != nil {
		t.Fatal(err)
	}
	if n, err := b.ReleaseHeld(t.Context()); err != nil || n != 1 {
		t.Fatalf("released %d, %v", n, err)
	}
	gc(t, d)
	wantThere(t, b, false, mine...)
	wantThere(t, b, true, theirs...)
}
