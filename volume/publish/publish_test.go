package publish_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
	"github.com/volary/volary/volume/publish"
)

// world is what hosts share: blocks, and pins that all of them see.
type world struct {
	t      *testing.T
	secret namespace.Secret
	blocks *store.Store
	local  *local.Set
	pins   *pinsettest.Memory
	clocks sync.Mutex
	now    time.Time
}

// clock goes on by a second whenever somebody looks at it.
func (w *world) clock() time.Time {
	w.clocks.Lock()
	defer w.clocks.Unlock()
	w.now = w.now.Add(time.Second)
	return w.now
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &world{t: t, secret: namespace.NewSecret(), blocks: s, local: local.New(s, s.BeginSweep), pins: pinsettest.NewMemory(), now: time.Now().Add(-time.Hour)}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

type session struct{ *store.Session }

func (s session) SaveStat(context.Context, []importer.StatRecord) error { return nil }

func (w *world) begin(ctx context.Context) (volume.Session, error) {
	s, err := w.blocks.Session(ctx)
	return session{s}, err
}

// host is one of several.
type host struct {
	*world
	*volume.Manager
	heads *publish.Heads
	table *table.Table
	seen  snapshot.Blocks // what heads are judged by
	keeps pinset.Set      // this host's own pins
	lease volume.Leases
	dir   string
	deaf  bool // what is to be sent fails
	reads bool // and may do nothing else in the namespace
	step  func(label string) error
	whole func(cid.Cid) error // gets all of a snapshot
	holds volume.Replicator   // waits for replicas; nil: there is no cluster
	store snapshot.Blocks     // of its volumes; nil: the world's
	again time.Duration
	close func()

	logger *slog.Logger // of its volumes; nil discards
}

func (w *world) host() *host {
	w.t.Helper()
	h := &host{world: w, dir: w.t.TempDir(), seen: w.blocks, keeps: w.local}
	h.open()
	w.t.Cleanup(func() { h.close() })
	return h
}

var errAway = errors.New("away")

func (h *host) open() {
	h.t.Helper()
	ns, err := namespace.Open(h.secret)
	h.must(err)
	if h.reads {
		ns, err = namespace.OpenReadOnly(ns.PublicKey())
		h.must(err)
	}
	t, err := table.Open(filepath.Join(h.dir, "heads.db"), publish.History(h.seen))
	h.must(err)
	h.table = t
	h.heads = publish.New(publish.Options{
		Namespace: ns, Table: t, Begin: h.begin, Blocks: h.seen, Pins: h.local, Author: filepath.Base(h.dir),
		Send: func(ctx context.Context, _ string, p pinset.Pin) error {
			if h.deaf {
				return errAway
			}
			return h.pins.Add(ctx, p)
		},
	})
	if h.store == nil {
		h.store = h.blocks
	}
	h.Manager, err = volume.Open(filepath.Join(h.dir, "volumes"), volume.Options{
		Begin: h.begin, Blocks: h.store, Pins: h.keeps, Own: h.local, Heads: h.heads, Leases: h.lease, Mounter: mounttest.NewCopies(), Author: filepath.Base(h.dir), Step: h.step,
		Again: h.again, Replicate: h.holds, Hydrate: func(_ context.Context, _ volume.Session, root cid.Cid) error {
			if h.whole == nil {
				return nil
			}
			return h.whole(root)
		},
		Now: h.clock, Logger: h.logger,
	})
	h.must(err)
	h.close = func() { h.must(h.Manager.Close()); h.must(t.Close()) }
}

func (h *host) do(op volume.Operation) volume.Result {
	h.t.Helper()
	res, err := h.Do(h.t.Context(), op)
	h.must(err)
	return res
}

// change writes a file in a volume and commits it.
func (h *host) change(name, file, content string) cid.Cid {
	h.t.Helper()
	dir := h.do(&volume.Mount{Name: name}).Path
	h.must(os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
	return h.do(&volume.Unmount{Name: name}).Commit.Cid
}

func (h *host) learn() (moved, refused int) {
	h.t.Helper()
	moved, refused, err := h.heads.Learn(h.t.Context(), h.pins.All(h.t.Context()))
	h.must(err)
	return moved, refused
}

func (h *host) names() map[string]cid.Cid {
	h.t.Helper()
	infos, err := h.List(h.t.Context(), volume.ListOptions{})
	h.must(err)
	names := map[string]cid.Cid{}
	for _, i := range infos {
		names[i.Name] = i.Head.Cid
	}
	return names
}

func TestAHostWithoutStateFindsAndMountsAllVolumesFromThePins(t *testing.T) {
	w := newWorld(t)
	a := w.host()
	a.do(&volume.Create{Name: "data"})
	a.do(&volume.Create{Name: "other"})
	head := a.change("data", "f", "one")

	b := w.host()
	if len(b.names()) != 0 {
		t.Fatalf("before it looked: %v", b.names())
	}
	if _, refused := b.learn(); refused != 0 {
		t.Errorf("%d pins were refused", refused)
	}
	if got := b.names(); len(got) != 2 || got["data"] != head {
		t.Fatalf("the other host sees %v, want data at %s", got, head)
	}
	if c, err := b.Resolve(t.Context(), "data@~1"); err != nil || c == head {
		t.Errorf("an earlier state of a volume elsewhere: %s, %v", c, err)
	}
	if _, err := b.Do(t.Context(), &volume.Create{Name: "data"}); !errors.Is(err, volume.ErrTaken) {
		t.Errorf("a name that another host has: %v", err)
	}
	next := b.change("data", "g", "two")
	a.learn()
	if got := a.change("data", "h", "three"); got == next {
		t.Error("nothing was committed")
	}
	s, err := tree.Open(t.Context(), w.blocks, a.names()["data"])
	w.must(err)
	for _, name := range []string{"f", "g", "h"} {
		if _, err := s.Lookup(t.Context(), name); err != nil {
			t.Errorf("%s of one of the hosts is lost: %v", name, err)
		}
	}
	if s.Commit.Sequence != 4 {
		t.Errorf("sequence %d, want 4 of one line", s.Commit.Sequence)
	}
}

func TestThoseVolumesArePublishedThatTheirHostSaysItOf(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	options := map[string]string{"publish": "true"}
	a.do(&volume.Create{Name: "data", Options: options})
	a.do(&volume.Create{Name: "other"})
	a.do(&volume.Create{Name: "gone", Options: options})
	a.do(&volume.Remove{Name: "gone"})
	i, err := a.Inspect(t.Context(), "data")
	w.must(err)
	if got, err := a.Published(); err != nil || len(got) != 1 || got[0] != i.ID {
		t.Errorf("%v, %v, want %s", got, err, i.ID)
	}
	b.learn()
	if got, err := b.Published(); err != nil || len(got) != 0 {
		t.Errorf("a host that was not told to publishes %v, %v", got, err)
	}
}

func TestRenamesAndRemovalsReachOtherHosts(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	a.do(&volume.Create{Name: "data"})
	head := a.change("data", "f", "one")
	a.do(&volume.Rename{Name: "data", To: "renamed"})
	b.learn()
	if got := b.names(); len(got) != 1 || got["renamed"] != head {
		t.Errorf("renamed: %v", got)
	}
	a.do(&volume.Remove{Name: "renamed"})
	b.learn()
	if got := b.names(); len(got) != 0 {
		t.Errorf("removed: %v", got)
	}
	b.learn() // old news does not bring it back
	back := a.do(&volume.Undelete{Name: "renamed", As: "again"}).Commit.Cid
	b.learn()
	if got := b.names(); len(got) != 1 || got["again"] != back || back == head {
		t.Errorf("brought back: %v, want %s", got, back)
	}
	a.do(&volume.Create{Name: "data"})
	b.learn()
	if got := b.names(); len(got) != 2 {
		t.Errorf("another one of the first name: %v", got)
	}
}

func TestWhatCouldNotBeToldIsToldLater(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	a.deaf = true
	a.do(&volume.Create{Name: "data"})
	head := a.change("data", "f", "one")
	a.do(&volume.Create{Name: "gone"})
	a.do(&volume.Remove{Name: "gone"})
	b.learn()
	if got := b.names(); len(got) != 0 {
		t.Fatalf("nothing was sent, but %v is there", got)
	}
	if n, err := a.heads.Untold(); n != 2 || err != nil {
		t.Errorf("%d volumes are untold, %v, want 2", n, err)
	}
	a.close()
	a.deaf = false
	a.open()
	w.must(a.Start(t.Context()))
	b.learn()
	if got := b.names(); len(got) != 1 || got["data"] != head {
		t.Errorf("after the next start: %v, want data at %s", got, head)
	}
	if n, err := a.heads.Untold(); n != 0 || err != nil {
		t.Errorf("%d volumes are untold after the next start, %v", n, err)
	}
}

func TestACrashBeforeOthersAreToldIsMendedAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	a.do(&volume.Create{Name: "data"})
	a.close()
	w.must(os.Remove(filepath.Join(a.dir, "heads.db")))
	a.open()
	w.must(a.Start(t.Context()))
	head := a.change("data", "f", "one")
	b.learn()
	if got := b.names(); got["data"] != head {
		t.Errorf("%v, want data at %s", got, head)
	}
}

func TestAHeadOfAnotherNamespaceIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	a := w.host()
	a.do(&volume.Create{Name: "data"})
	w.secret = namespace.NewSecret()
	b := w.host()
	if _, refused := b.learn(); refused == 0 || len(b.names()) != 0 {
		t.Errorf("%d pins refused, sees %v", refused, b.names())
	}
}
