package kubo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// pretender is a client of a handler, which is a daemon as far as the client knows.
func pretender(t *testing.T, o Options, h http.HandlerFunc) *Blocks {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	o.Endpoint, o.Host = server.URL, "host"
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// asks are requests of every kind.
func asks(b *Blocks) map[string]func(context.Context) error {
	bs := blockstest.Random(7, 100, 10)
	var cs []cid.Cid
	for _, blk := range bs {
		cs = append(cs, blk.Cid())
	}
	return map[string]func(context.Context) error{
		"version": func(ctx context.Context) error { _, err := b.Info(ctx); return err },
		"date":    func(ctx context.Context) error { _, err := b.Date(ctx); return err },
		"peers":   func(ctx context.Context) error { _, err := b.SwarmPeers(ctx); return err },
		"config":  func(ctx context.Context) error { _, err := b.Syncs(ctx); return err },
		"put":     func(ctx context.Context) error { return b.Put(ctx, bs[0]) },
		"get":     func(ctx context.Context) error { _, err := b.Get(ctx, cs[0]); return err },
		"has":     func(ctx context.Context) error { _, err := b.Has(ctx, cs[0]); return err },
		"list":    func(ctx context.Context) error { _, err := b.Has(ctx, cs...); return err },
		"link":    func(ctx context.Context) error { return b.Session().link(ctx, cs[0]) },
		"held":    func(ctx context.Context) error { _, err := b.ReleaseHeld(ctx); return err },
		"remove":  func(ctx context.Context) error { return b.remove(ctx, "/x") },
		"pins":    func(ctx context.Context) error { _, err := b.pinned(ctx, namePrefix); return err },
		"pin":     func(ctx context.Context) error { return b.pin(ctx, cs[0], "x") },
		"unpin":   func(ctx context.Context) error { return b.unpin(ctx, cs[0]) },
		"missing": func(ctx context.Context) error { return b.incomplete(ctx, cs[0]) },
	}
}

func TestAnAnswerWithoutEndIsNotReadToTheEnd(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusInternalServerError} {
		var sent atomic.Int64
		b := pretender(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			more := bytes.Repeat([]byte{'a'}, 64<<10)
			for _, err := w.Write([]byte(`{"Message": "`)); err == nil; _, err = w.Write(more) {
				sent.Add(int64(len(more)))
			}
		})
		for what, ask := range asks(b) {
			sent.Store(0)
			err := ask(t.Context())
			if !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), b.Endpoint()) || len(err.Error()) > 1000 {
				t.Errorf("%s, status %d: %.300v", what, status, err)
			}
			// What the kernel holds was sent as well.
			if n := sent.Load(); n > maxAnswer+(12<<20) {
				t.Errorf("%s, status %d: %d bytes were sent before it ended", what, status, n)
			}
		}
	}
}

func TestAnAnswerThatDripsEnds(t *testing.T) {
	b := pretender(t, Options{Timeout: 200 * time.Millisecond, FetchTimeout: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text := `{"Message": "`
		for {
			if _, err := w.Write([]byte(text)); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			text = "a"
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
	for what, ask := range asks(b) {
		ctx, done := context.WithTimeout(t.Context(), 10*time.Second)
		err := ask(ctx)
		if ctx.Err() != nil || !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		done()
	}
}

func TestLongAnswersThatComeAreTakenWhole(t *testing.T) {
	const pins = 100_000
	big := blockstest.Random(3, 1, snapshot.MaxBlockSize)[0]
	b := pretender(t, Options{Timeout: 6 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
		slowly := func(line string) { // six of them take longer than the time without progress
			fmt.Fprintln(w, line)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(1100 * time.Millisecond)
		}
		w.Header().Set("Content-Type", "application/json")
		switch strings.TrimPrefix(r.URL.Path, "/api/v0/") {
		case "pin/ls":
			for i := range pins {
				fmt.Fprintf(w, "{\"Cid\": \"bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku\", \"Name\": \"%spin-%d\"}\n", namePrefix, i)
			}
			for range 6 {
				slowly(`{"Cid": "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "Name": "other"}`)
			}
		case "pin/add":
			for i := range 6 {
				slowly(fmt.Sprintf(`{"Progress": %d}`, i+1))
			}
			slowly(`{"Pins": ["x"]}`)
		case "block/get":
			_, _ = w.Write(big.RawData())
		}
	})
	var both sync.WaitGroup
	both.Go(func() {
		cs, err := b.pinned(t.Context(), namePrefix)
		if err != nil || len(cs) != pins {
			t.Errorf("%d of %d pins: %v", len(cs), pins, err)
		}
	})
	both.Go(func() {
		if err := b.pin(t.Context(), big.Cid(), "x"); err != nil {
			t.Error(err)
		}
	})
	both.Wait()
	if _, err := b.Get(t.Context(), big.Cid()); err != nil {
		t.Error(err)
	}
}

func TestWhatDeniesAccessIsTakenAtItsWord(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired} {
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", "text/html", "", ";"} {
			b := pretender(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(status)
				fmt.Fprint(w, `{"error":"unauthorized"}`+strings.Repeat("x", 5<<20))
			})
			for what, ask := range asks(b) {
				if err := ask(t.Context()); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "unauthorized") || len(err.Error()) > 1000 {
					t.Errorf("%s, %d, %s: %.300v", what, status, kind, err)
				}
			}
		}
	}
}

func TestAnErrorThatIsNotOfKuboIsRepeatedAsItIs(t *testing.T) {
	for _, text := range []string{`{"error":"out of order"}`, `{"Message":"out of order"}`, `"out of order"`} {
		b := pretender(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			http.Error(w, text, http.StatusInternalServerError)
		})
		if _, err := b.Info(t.Context()); err == nil || !strings.Contains(err.Error(), "out of order") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// said is a buffer that is written and read at a time.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *said) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *said) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestARequestThatWaitsSaysForWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told said
		b, err := New(Options{Endpoint: "http://kubo:5001", Logger: slog.New(slog.NewTextHandler(&told, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		begin := time.Now()
		newWatch(15*time.Minute, cancel, func(waited time.Duration) { b.waiting("files/cp", waited) })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if told.String() != "" {
			t.Errorf("too early: %s", told.String())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, want := range []string{"waiting for kubo", "endpoint=http://kubo:5001", "request=files/cp", "for=10s"} {
			if !strings.Contains(told.String(), want) {
				t.Errorf("%q is not in %q", want, told.String())
			}
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, snapshot.ErrUnavailable) || time.Since(begin) != 15*time.Minute {
			t.Errorf("after %s: %v", time.Since(begin), cause)
		}
		if n := strings.Count(told.String(), "\n"); n != 15 {
			t.Errorf("said %d times", n)
		}
	})
}
