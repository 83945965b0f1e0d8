package publish_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

// restart ends the host's process and begins another one, which heard of nothing meanwhile.
func (h *host) restart() {
	h.t.Helper()
	h.close()
	h.open()
	h.must(h.Start(h.t.Context()))
}

func (h *host) info(name string) *volume.Info {
	h.t.Helper()
	i, err := h.Inspect(h.t.Context(), name)
	h.must(err)
	return i
}

func (h *host) has(ref, file string) bool {
	h.t.Helper()
	c, err := h.Resolve(h.t.Context(), ref)
	h.must(err)
	s, err := tree.Open(h.t.Context(), h.blocks, c)
	h.must(err)
	_, err = s.Lookup(h.t.Context(), file)
	return err == nil
}

func (h *host) wantNames(want ...string) {
	h.t.Helper()
	got := h.names()
	for _, name := range want {
		if _, ok := got[name]; !ok || len(got) != len(want) {
			h.t.Fatalf("the volumes are %v, want %q", got, want)
		}
	}
	if len(got) != len(want) {
		h.t.Fatalf("the volumes are %v, want %q", got, want)
	}
}

// shared are two hosts that have both mounted a volume and let go of it.
func shared(t *testing.T) (w *world, a, b *host) {
	w = newWorld(t)
	a, b = w.host(), w.host()
	a.do(&volume.Create{Name: "data"})
	a.change("data", "f", "one")
	b.learn()
	b.change("data", "g", "two")
	a.learn()
	return w, a, b
}

func TestAHostThatDidNotHearOfARemovalDoesNotUndoIt(t *testing.T) {
	_, a, b := shared(t)
	a.do(&volume.Remove{Name: "data"})
	b.restart()
	a.learn()
	a.wantNames()
	b.learn()
	b.wantNames()
	b.restart()
	a.restart()
	a.learn()
	a.wantNames()
	if _, err := b.Do(t.Context(), &volume.Mount{Name: "data"}); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("mounted though it is removed: %v", err)
	}
}

func TestAHostThatDidNotHearOfARenameDoesNotUndoIt(t *testing.T) {
	_, a, b := shared(t)
	a.do(&volume.Rename{Name: "data", To: "renamed"})
	b.restart()
	a.learn()
	a.wantNames("renamed")
	b.learn()
	if dir := b.do(&volume.Mount{Name: "renamed"}).Path; dir == "" {
		t.Error("not mounted by its new name")
	}
	b.wantNames("renamed")
	a.do(&volume.Rename{Name: "renamed", To: "again"})
	b.learn()
	b.wantNames("renamed") // as long as it is mounted
	if _, err := b.Do(t.Context(), &volume.Mount{Name: "again"}); !errors.Is(err, volume.ErrMounted) {
		t.Errorf("mounted by both names: %v", err)
	}
	b.do(&volume.Unmount{Name: "renamed"})
	b.wantNames("again")
}

func TestChangesInAVolumeThatOthersRemovedAreNotLost(t *testing.T) {
	w, a, b := shared(t)
	dir := b.do(&volume.Mount{Name: "data"}).Path
	w.must(os.WriteFile(filepath.Join(dir, "h"), []byte("three"), 0o644))
	a.do(&volume.Remove{Name: "data"})
	b.learn()
	if i := b.info("data"); !i.RemovedElsewhere {
		t.Error("it is not said that others removed it")
	}
	b.wantNames("data")
	b.restart()
	b.do(&volume.Unmount{Name: "data"})
	b.wantNames()
	a.learn()
	a.wantNames()
	b.do(&volume.Undelete{Name: "data"})
	a.learn()
	a.wantNames("data")
	for _, name := range []string{"f", "g", "h"} {
		if !a.has("data", name) {
			t.Errorf("%s is not in it", name)
		}
	}
}

func TestWhatAnotherHostRemovedComesBackAtItsLastState(t *testing.T) {
	_, a, b := shared(t)
	a.change("data", "h", "three")
	a.do(&volume.Remove{Name: "data"})
	b.learn()
	b.wantNames()
	b.do(&volume.Undelete{Name: "data"})
	if !b.has("data", "h") {
		t.Error("it came back without the last change")
	}
	a.learn()
	a.wantNames("data")
}

func TestAVolumeThatOthersBroughtBackHasItsOptionsAgain(t *testing.T) {
	_, a, b := shared(t)
	options := map[string]string{"keep": "last:3"}
	b.do(&volume.Set{Name: "data", Options: options})
	a.do(&volume.Remove{Name: "data"})
	b.learn()
	b.wantNames()
	a.do(&volume.Undelete{Name: "data"})
	b.learn()
	if _, err := b.Do(t.Context(), &volume.Undelete{Name: "data"}); !errors.Is(err, volume.ErrExist) {
		t.Errorf("brought back what is there: %v", err)
	}
	b.do(&volume.Mount{Name: "data"})
	if i := b.info("data"); !maps.Equal(i.Options, options) {
		t.Errorf("options %v, want %v", i.Options, options)
	}
}

func TestAVolumeThatIsNotChangedHereIsAtTheNewestStateOfAll(t *testing.T) {
	_, a, b := shared(t)
	head := a.change("data", "h", "three")
	b.learn()
	for _, ref := range []string{"data", "data@4"} {
		if c, err := b.Resolve(t.Context(), ref); err != nil || c != head {
			t.Errorf("%s is %s, %v, want %s", ref, c, err, head)
		}
	}
	if got := b.names()["data"]; got != head {
		t.Errorf("listed at %s, want %s", got, head)
	}
	if i := b.info("data"); i.Head.Cid != head || i.Sequence != 4 {
		t.Errorf("inspected at %s, state %d, want %s", i.Head, i.Sequence, head)
	}
	b.do(&volume.Clone{Name: "data", To: "copy"})
	if !b.has("copy", "h") {
		t.Error("cloned at an older state")
	}
}

func TestEveryOperationWorksOnAVolumeThatOnlyOthersHave(t *testing.T) {
	for name, do := range map[string]struct {
		op   volume.Operation
		then func(a, b *host)
	}{
		"set": {&volume.Set{Name: "data", Options: map[string]string{"keep": "last:3"}}, func(_, b *host) {
			if got := b.info("data").Options["keep"]; got != "last:3" {
				b.t.Errorf("keep is %q", got)
			}
		}},
		"remove": {&volume.Remove{Name: "data"}, func(a, b *host) { a.wantNames(); b.wantNames() }},
		"rename": {&volume.Rename{Name: "data", To: "other"}, func(a, b *host) { a.wantNames("other"); b.wantNames("other") }},
		"tag": {&volume.Tag{Name: "data", Tag: "good", State: "1"}, func(_, b *host) {
			if b.has("data@good", "f") {
				b.t.Error("the tag is not of the first state")
			}
		}},
		"rollback": {&volume.Rollback{Name: "data", To: "1"}, func(a, b *host) {
			if a.has("data", "f") || b.has("data", "f") {
				b.t.Error("not rolled back")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.host(), w.host()
			a.do(&volume.Create{Name: "data"})
			a.change("data", "f", "one")
			b.learn()
			b.do(do.op)
			a.learn()
			do.then(a, b)
		})
	}
}

// counted are pins of which somebody hears.
type counted struct {
	*pinsettest.Memory
	added func(pinset.Pin)
}

func (c counted) Add(ctx context.Context, p pinset.Pin) error {
	err := c.Memory.Add(ctx, p)
	c.added(p)
	return err
}

func TestAHostKeepsWhatItTookOverFromAnotherOne(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	a.do(&volume.Create{Name: "data"})
	first := a.change("data", "f", "one")

	// until runs what takes care of b's volumes until a root is pinned for the volume.
	until := func(root cid.Cid) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		pins := counted{pinsettest.NewMemory(), func(p pinset.Pin) {
			if p.Root == root {
				stop()
			}
		}}
		b.close()
		b.keeps = pins
		b.open()
		b.must(b.Start(t.Context()))
		b.learn()
		b.do(&volume.Mount{Name: "data"})
		b.Run(ctx)
		id := b.info("data").ID
		st, err := pins.Status(t.Context(), root)
		b.must(err)
		if p, pinned := st.Of(volume.PinOwner + id); !pinned || p.Meta[volume.PinVolume] != id {
			t.Errorf("what was mounted is not kept: %+v", st)
		}
	}
	until(first)
	b.do(&volume.Unmount{Name: "data"})
	until(a.change("data", "f", "two"))
	// After a restart what is not kept yet is kept then.
	until(b.info("data").Head.Cid)
}

func TestWhatIsTakenOverWhileAnEarlierStateIsBeingKeptIsKeptToo(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	a.do(&volume.Create{Name: "data"})
	first := a.change("data", "f", "one")
	b.learn()
	var second cid.Cid
	var kept atomic.Bool
	mounted := make(chan error, 1)
	b.close()
	b.keeps = counted{pinsettest.NewMemory(), func(p pinset.Pin) {
		switch p.Root {
		case first:
			_, err := b.Do(t.Context(), &volume.Mount{Name: "data"})
			mounted <- err
		case second:
			kept.Store(true)
		}
	}}
	b.open()
	b.must(b.Start(t.Context()))
	b.do(&volume.Mount{Name: "data"})
	b.do(&volume.Unmount{Name: "data"})
	second = a.change("data", "f", "two")
	b.learn()
	defer b.run()()
	b.must(<-mounted)
	if got := b.info("data").Base.Cid; got != second {
		t.Errorf("mounted at %s, want %s", got, second)
	}
	w.until("that is kept", kept.Load)
}
