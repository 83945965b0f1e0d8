//go:build real

package kept

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/kubo/kubotest"
	"github.com/volary/volary/snapshot/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open returns a host with records of its own whose blocks are in d.
func open(t *testing.T, d *kubotest.Daemon, name string) *Host {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	endpoint, err := d.API()
	must(t, err)
	k, err := kubo.New(kubo.Options{Endpoint: endpoint, Host: name, Repo: d.Repo, Offline: true})
	must(t, err)
	t.Cleanup(func() { k.Close() })
	return New(Options{Records: s, Pins: local.New(s, s.BeginSweep), Kubo: k, Host: name})
}

func raw(n int) blocks.Block {
	b, err := blocks.NewBlockWithCid([]byte("root "+string(rune('a'+n))), cidOf("root "+string(rune('a'+n))))
	if err != nil {
		panic(err)
	}
	return b
}

func cidOf(text string) cid.Cid {
	p := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: 0x12, MhLength: -1}
	c, err := p.Sum([]byte(text))
	if err != nil {
		panic(err)
	}
	return c
}

func run(t *testing.T, d *kubotest.Daemon, args ...string) string {
	t.Helper()
	out, err := d.Run(t.Context(), args...)
	must(t, err)
	return out
}

func TestConformance(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	n := 0
	t.Run("pins", func(t *testing.T) {
		pinsettest.Run(t, func(t *testing.T) (pinset.Set, func(int) cid.Cid) {
			n++
			h := open(t, d, "host"+string(rune('a'+n)))
			return h, func(i int) cid.Cid {
				must(t, h.Put(t.Context(), raw(i)))
				return raw(i).Cid()
			}
		})
	})
	t.Run("blocks", func(t *testing.T) {
		blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
			run(t, d, "repo", "gc", "--quiet")
			return open(t, d, "host")
		})
	})
}

func TestASessionIsBlocksAsWell(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
		run(t, d, "repo", "gc", "--quiet")
		x, err := open(t, d, "host").Session(t.Context())
		must(t, err)
		t.Cleanup(func() { must(t, x.Close()) })
		return x
	})
}

func TestASyncOfTheHostIsOneOfItsSessions(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "host")
	x, err := h.Session(t.Context())
	must(t, err)
	defer x.Close()
	must(t, x.Put(t.Context(), raw(1)))
	must(t, h.Sync(t.Context()))
	if has, err := h.o.Kubo.Has(t.Context(), raw(1).Cid()); err != nil || !has[0] {
		t.Errorf("the daemon has it: %v, %v", has, err)
	}
}

// tree writes some files and returns their directory.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b/c", "b/d"} {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(strings.Repeat(name, 1000)), 0o644))
	}
	return dir
}

// snap imports a directory and pins the commit.
func snap(t *testing.T, h *Host, dir string) cid.Cid {
	t.Helper()
	x, err := h.Session(t.Context())
	must(t, err)
	c, err := importer.Import(t.Context(), x, dir, importer.Options{Cache: x})
	must(t, err)
	must(t, snapshot.Extend(t.Context(), x, c.Commit))
	b, err := snapshot.EncodeCommit(c.Commit)
	must(t, err)
	must(t, x.Put(t.Context(), b))
	must(t, x.Sync(t.Context()))
	must(t, h.Add(t.Context(), pinset.Pin{Root: b.Cid()}))
	must(t, x.Close())
	return b.Cid()
}

func whole(t *testing.T, b snapshot.Blocks, root cid.Cid) error {
	t.Helper()
	return snapshot.WalkDAG(t.Context(), b, []cid.Cid{root}, func(_ cid.Cid, _ blocks.Block, err error) error { return err })
}

func TestWhatIsKeptOutlivesTheDaemonsCollectionAndAnUnpinBySomebodyElse(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "host")
	root := snap(t, h, tree(t))
	run(t, d, "pin", "add", root.String())
	run(t, d, "pin", "rm", root.String())
	run(t, d, "repo", "gc")
	must(t, whole(t, h, root))

	must(t, h.Tag(t.Context(), "v1", root))
	must(t, h.Remove(t.Context(), root, ""))
	run(t, d, "repo", "gc")
	must(t, whole(t, h, root))
	must(t, h.Untag(t.Context(), "v1"))
	run(t, d, "repo", "gc")
	if err := whole(t, h, root); err == nil {
		t.Error("the daemon still has what nothing keeps")
	}
}

func TestWhatTheDaemonLostIsReadFromTheFilesAgain(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "host")
	dir := tree(t)
	root := snap(t, h, dir)
	must(t, h.Remove(t.Context(), root, ""))
	run(t, d, "repo", "gc")
	if again := snap(t, h, dir); !again.Defined() {
		t.Error("no commit")
	} else {
		must(t, whole(t, h, again))
	}
}

func TestMoveBringsEverythingToTheDaemonUnderTheSameCIDs(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "host")
	ctx := t.Context()
	a, b := raw(1), raw(2)
	must(t, h.o.Records.Put(ctx, a, b))
	must(t, h.o.Records.Sync(ctx))
	must(t, h.Set.Add(ctx, pinset.Pin{Root: a.Cid(), Name: "a"}))
	must(t, h.Set.Tag(ctx, "b", b.Cid()))
	moved, err := h.Move(ctx, nil)
	must(t, err)
	if want := (Moved{Roots: 2, Blocks: 2, Bytes: len(a.RawData()) + len(b.RawData())}); moved != want {
		t.Errorf("moved %+v, want %+v", moved, want)
	}
	run(t, d, "repo", "gc")
	has, err := h.o.Kubo.Has(ctx, a.Cid(), b.Cid())
	must(t, err)
	if diff := cmp.Diff([]bool{true, true}, has); diff != "" {
		t.Error(diff)
	}
	if again, err := h.Move(ctx, nil); err != nil || again.Blocks != 0 {
		t.Errorf("once more: %+v, %v", again, err)
	}
}

func TestWhatACrashLeftIsReleased(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "host")
	root := snap(t, h, tree(t))
	must(t, h.Set.Remove(t.Context(), root, "")) // and not the daemon's pin
	for _, dryRun := range []bool{true, false} {
		if r, err := h.Reconcile(t.Context(), dryRun); r != (Reconciled{Released: 1}) || err != nil {
			t.Errorf("dry run %v: %+v, %v", dryRun, r, err)
		}
	}
	run(t, d, "repo", "gc")
	if err := whole(t, h, root); err == nil {
		t.Error("it is still there")
	}
}

func TestNothingIsRecordedOrRemovedBeforeWhatComesFirst(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "host")
	must(t, h.Put(t.Context(), raw(1)))
	pin := pinset.Pin{Root: raw(1).Cid()}
	pinned := func() bool {
		st, err := h.Status(t.Context(), pin.Root)
		must(t, err)
		return st.State == pinset.Pinned
	}
	killed := errors.New("killed")
	for _, crash := range []error{killed, nil} {
		err := h.AddAfter(t.Context(), pin, func() error {
			if pinned() {
				t.Error("recorded before")
			}
			return crash
		})
		if !errors.Is(err, crash) || pinned() != (crash == nil) {
			t.Errorf("add, first %v: %v, pinned %v", crash, err, pinned())
		}
	}
	for _, crash := range []error{killed, nil} {
		err := h.RemoveAfter(t.Context(), pin.Root, "", func() error {
			if !pinned() {
				t.Error("removed before")
			}
			return crash
		})
		if !errors.Is(err, crash) || pinned() != (crash != nil) {
			t.Errorf("remove, first %v: %v, pinned %v", crash, err, pinned())
		}
	}
}

func TestWhatACopyOfTheRecordsKeepsIsNotReleased(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	one, copied := open(t, d, "host"), open(t, d, "host")
	shared := snap(t, one, tree(t))
	must(t, copied.Add(t.Context(), pinset.Pin{Root: shared}))
	later := snap(t, one, tree(t))
	if r, err := copied.Reconcile(t.Context(), false); r != (Reconciled{Unknown: 1}) || err != nil {
		t.Errorf("the copy: %+v, %v", r, err)
	}
	run(t, d, "repo", "gc")
	must(t, whole(t, one, later))
}

func TestAPinThatWaitsForABlockHoldsUpNoOther(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	h := open(t, d, "patient")
	lacking, err := kubo.Keep{Host: "x", Purpose: "y", Commit: cidOf("nobody has this")}.Encode()
	must(t, err)
	must(t, h.Put(t.Context(), lacking, raw(1)))
	must(t, h.Sync(t.Context()))
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Add(ctx, pinset.Pin{Root: lacking.Cid()}) }()
	for waits := false; !waits; {
		h.mu.Lock()
		waits = h.needed[lacking.Cid()] != nil
		h.mu.Unlock()
	}
	must(t, h.Add(t.Context(), pinset.Pin{Root: raw(1).Cid()}))
	must(t, h.Remove(t.Context(), raw(1).Cid(), ""))
	// What is being added, and what somebody wants gone meanwhile, is for who adds it to settle.
	must(t, h.Remove(t.Context(), lacking.Cid(), ""))
	select {
	case err := <-ended:
		t.Fatalf("a pin without all blocks ended: %v", err)
	default:
	}
	giveUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a pin that was given up: %v", err)
	}
	if st, err := h.Status(t.Context(), lacking.Cid()); err != nil || st.State != pinset.Unpinned || len(h.needed) > 0 {
		t.Errorf("after it was given up: %+v, %v, needed %v", st, err, h.needed)
	}
}
