package volume_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

// host is a state directory with what a Manager needs.
type host struct {
	*volume.Manager
	t       *testing.T
	dir     string
	store   *store.Store
	pins    *local.Set
	mounter volume.Mounter
	pauser  volume.Pauser
	clocks  sync.Mutex
	now     time.Time
	step    func(label string) error
	boot    string
	isTag   func(ctx context.Context, name string) (bool, error)
	started func(*volume.Info)
	logger  *slog.Logger
	reserve uint64

	replicate volume.Replicator
	forgotten time.Duration
}

func newHost(t *testing.T, m volume.Mounter) *host {
	t.Helper()
	return newHostAt(t, t.TempDir(), m)
}

func newHostAt(t *testing.T, dir string, m volume.Mounter) *host {
	t.Helper()
	h := &host{t: t, dir: dir, mounter: m, now: time.Now().Add(-time.Hour)}
	h.open()
	t.Cleanup(h.close)
	return h
}

type session struct{ *store.Session }

func (s session) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	own := make([]store.StatRecord, len(recs))
	for i, r := range recs {
		own[i] = store.StatRecord(r)
	}
	return s.Session.SaveStat(ctx, own)
}

func (h *host) open() {
	h.t.Helper()
	var err error
	h.store, err = store.Open(filepath.Join(h.dir, "store"), store.Options{})
	h.must(err)
	h.pins = local.New(h.store, h.store.BeginSweep)
	h.Manager, err = volume.Open(filepath.Join(h.dir, "volumes"), volume.Options{
		Begin: func(ctx context.Context) (volume.Session, error) {
			s, err := h.store.Session(ctx)
			return session{s}, err
		},
		Blocks: h.store, Pins: h.pins, Own: h.pins, IsTag: h.isTag, Tags: h.pins, Mounter: h.mounter, Pauser: h.pauser,
		Author: "test", Boot: h.boot, Logger: h.logger,
		Started: h.started, Reserve: h.reserve, Replicate: h.replicate, Again: 5 * time.Millisecond, Forgotten: h.forgotten, Visible: func(by string) bool { return by != "" && by != "hidden" },
		Now: h.clock,
		Step: func(label string) error {
			if h.step == nil {
				return nil
			}
			return h.step(label)
		},
	})
	h.must(err)
}

// clock goes on by a second whenever somebody looks at it.
func (h *host) clock() time.Time {
	h.clocks.Lock()
	defer h.clocks.Unlock()
	h.now = h.now.Add(time.Second)
	return h.now
}

func (h *host) close() {
	h.must(h.Manager.Close())
	h.must(h.store.Close())
}

// restart ends the process, as far as the state is concerned, and begins another one.
func (h *host) restart() {
	h.t.Helper()
	h.close()
	h.open()
	h.must(h.Start(h.t.Context()))
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) do(op volume.Operation) volume.Result {
	h.t.Helper()
	res, err := h.Do(h.t.Context(), op)
	h.must(err)
	return res
}

// refused fails unless an operation ends with a kind of error.
func (h *host) refused(op volume.Operation, want error) {
	h.t.Helper()
	if _, err := h.Do(h.t.Context(), op); !errors.Is(err, want) {
		h.t.Errorf("%s %+v: %v, want %v", volume.OperationName(op), op, err, want)
	}
}

func (h *host) resolve(ref string) cid.Cid {
	h.t.Helper()
	c, err := h.Resolve(h.t.Context(), ref)
	h.must(err)
	return c
}

// files returns the names and contents of the files of a snapshot.
func (h *host) files(ref string) map[string]string {
	h.t.Helper()
	ctx := h.t.Context()
	s, err := tree.Open(ctx, h.store, h.resolve(ref))
	h.must(err)
	files := map[string]string{}
	for e, err := range s.Walk(ctx, "", tree.Limits{}) {
		h.must(err)
		if e.IsDir() {
			continue
		}
		r, err := s.Reader(ctx, e.Entry)
		h.must(err)
		data := make([]byte, r.Size())
		if len(data) > 0 {
			_, err = io.ReadFull(r, data)
			h.must(err)
		}
		h.must(r.Close())
		files[e.Path] = string(data)
	}
	return files
}

func (h *host) write(path, content string) {
	h.t.Helper()
	h.must(os.WriteFile(path, []byte(content), 0o644))
}
