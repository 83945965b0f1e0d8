package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
)

// memoryHost is a host in memory. Its hooks, if set, stand in for what they are named after.
type memoryHost struct {
	*blockstest.Memory
	pins pinset.Set

	put     func(ctx context.Context) error
	collect func(ctx context.Context, dry bool) (Collected, error)

	mu       sync.Mutex
	tags     map[string]cid.Cid
	own      map[mark]bool
	dropped  []cid.Cid
	stats    map[string][]byte
	complete map[cid.Cid]bool
	begun    chan *memorySession
}

func newMemoryHost() *memoryHost {
	return &memoryHost{
		Memory: blockstest.NewMemory(), pins: pinsettest.NewMemory(),
		tags: map[string]cid.Cid{}, own: map[mark]bool{}, stats: map[string][]byte{}, complete: map[cid.Cid]bool{},
		begun: make(chan *memorySession, 1000),
	}
}

func (h *memoryHost) host() *Host {
	return &Host{Blocks: h.blocks(), Sessions: h, Pins: h.pins, Tags: memoryTags{h}, Owners: h, Upkeep: h, Closer: io.NopCloser(nil)}
}

func (h *memoryHost) blocks() snapshot.Blocks {
	if h.put == nil {
		return h.Memory
	}
	return &failingPut{h.Memory, h}
}

type failingPut struct {
	*blockstest.Memory
	h *memoryHost
}

func (f *failingPut) Put(ctx context.Context, _ ...blocks.Block) error { return f.h.put(ctx) }

func (h *memoryHost) Session(context.Context) (Session, error) {
	x := &memorySession{Memory: h.Memory, h: h, closed: make(chan struct{})}
	h.begun <- x
	return x, nil
}

type memorySession struct {
	*blockstest.Memory
	h      *memoryHost
	once   sync.Once
	closed chan struct{}
}

func (x *memorySession) Close() error {
	x.once.Do(func() { close(x.closed) })
	return nil
}

func (x *memorySession) LoadStat(_ context.Context, key []byte) ([]byte, error) {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	return x.h.stats[string(key)], nil
}

func (x *memorySession) SaveStat(_ context.Context, recs []importer.StatRecord) error {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	for _, r := range recs {
		x.h.stats[string(r.Key)] = r.Value
		for _, c := range r.Roots {
			x.h.complete[c] = true
		}
	}
	return nil
}

func (x *memorySession) Adopt(ctx context.Context, roots []cid.Cid) ([]bool, error) {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	yes, err := x.Has(ctx, roots...)
	for i, c := range roots {
		yes[i] = yes[i] && (c.Prefix().Codec == cid.Raw || x.h.complete[c])
	}
	return yes, err
}

type memoryTags struct{ h *memoryHost }

func (t memoryTags) Tag(_ context.Context, name string, root cid.Cid) error {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	t.h.tags[name] = root
	return nil
}

func (t memoryTags) Untag(_ context.Context, name string) error {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	if _, ok := t.h.tags[name]; !ok {
		return fmt.Errorf("tag %q: %w", name, fs.ErrNotExist)
	}
	delete(t.h.tags, name)
	return nil
}

func (t memoryTags) Tags(context.Context) (map[string]cid.Cid, error) {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	return maps.Clone(t.h.tags), nil
}

// mark is a commit that a user says was made here.
type mark struct {
	commit cid.Cid
	uid    uint32
}

func (h *memoryHost) MarkOwnBy(_ context.Context, c cid.Cid, uid uint32) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own[mark{c, uid}] = true
	return nil
}

func (h *memoryHost) OwnBy(_ context.Context, c cid.Cid, uid uint32) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.own[mark{c, 0}] || h.own[mark{c, uid}], nil
}

func (h *memoryHost) Collect(ctx context.Context, dry bool) (Collected, error) {
	if h.collect != nil {
		return h.collect(ctx, dry)
	}
	return Collected{KeptBlocks: uint64(h.Len())}, nil
}

func (h *memoryHost) Drop(_ context.Context, c cid.Cid) error {
	h.Delete(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped = append(h.dropped, c)
	return nil
}

func (h *memoryHost) Status(context.Context) (Status, error) {
	return Status{Home: "/h", Blocks: uint64(h.Len()), Pins: 7}, nil
}

// storeHost is a host on a real store; tags and upkeep are those of a host in memory.
func storeHost(t *testing.T) (*Host, *store.Store) {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	h := newMemoryHost().host()
	pins := local.New(s, s.BeginSweep)
	h.Blocks, h.Sessions, h.Pins, h.Owners = s, storeSessions{s}, pins, pins
	return h, s
}

type storeSessions struct{ s *store.Store }

func (s storeSessions) Session(ctx context.Context) (Session, error) {
	x, err := s.s.Session(ctx)
	return storeSession{x}, err
}

type storeSession struct{ *store.Session }

func (s storeSession) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	out := make([]store.StatRecord, len(recs))
	for i, r := range recs {
		out[i] = store.StatRecord(r)
	}
	return s.Session.SaveStat(ctx, out)
}

// daemon is a server that runs as long as its test, or until stop.
type daemon struct {
	path   string
	server *Server
	stop   func()
}

func serve(t testing.TB, h *Host, o ServerOptions) *daemon {
	t.Helper()
	s, err := NewServer(h, o)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &daemon{path: path, server: s, stop: stop}
}

func dial(t testing.TB, d *daemon) *Host {
	t.Helper()
	h, err := Dial(t.Context(), d.path, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func session(t *testing.T, h *Host) Session {
	t.Helper()
	s, err := h.Sessions.Session(t.Context())
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

// raw makes a request as curl would.
func raw(t *testing.T, d *daemon, method, path, body string, header ...string) (int, string) {
	t.Helper()
	c := newClient(d.path, DialOptions{})
	defer c.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.http.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
