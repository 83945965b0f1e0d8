package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/pinset"
)

// pretender is a set at a handler, which is a cluster's peer as far as the set knows.
func pretender(t *testing.T, timeout time.Duration, h http.HandlerFunc) *Set {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s, err := New(Options{Endpoints: []string{server.URL}, Namespace: "n", Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func root(n int) cid.Cid {
	digest, err := mh.Sum(fmt.Append(nil, n), mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, digest)
}

// asks are requests of every kind.
func asks(s *Set) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"version": func(ctx context.Context) error { _, err := s.Version(ctx); return err },
		"peers":   func(ctx context.Context) error { _, err := s.Peers(ctx); return err },
		"add":     func(ctx context.Context) error { return s.Add(ctx, pinset.Pin{Root: root(1)}) },
		"remove":  func(ctx context.Context) error { return s.Remove(ctx, root(1), "") },
		"status":  func(ctx context.Context) error { _, err := s.Status(ctx, root(1)); return err },
		"held":    func(ctx context.Context) error { _, err := s.Held(ctx); return err },
		"list": func(ctx context.Context) error {
			for _, err := range s.All(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func TestAnAnswerWithoutEndIsNotReadToTheEnd(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadGateway} {
		var sent atomic.Int64
		s := pretender(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			more := bytes.Repeat([]byte{'a'}, 64<<10)
			for _, err := w.Write([]byte(`{"message": "`)); err == nil; _, err = w.Write(more) {
				sent.Add(int64(len(more)))
			}
		})
		for what, ask := range asks(s) {
			sent.Store(0)
			err := ask(t.Context())
			if !errors.Is(err, pinset.ErrUnavailable) || !strings.Contains(err.Error(), s.endpoints[0].name) || len(err.Error()) > 1000 {
				t.Errorf("%s, status %d: %.300v", what, status, err)
			}
			// What the kernel holds was sent as well.
			if n := sent.Load(); n > maxAnswer+(12<<20) {
				t.Errorf("%s, status %d: %d bytes were sent before it ended", what, status, n)
			}
		}
	}
}

// listing answers as a peer that lists pins until more returns false.
func listing(more func(n int) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for n := 0; more(n); n++ {
			if _, err := fmt.Fprintf(w, "{\"cid\": %q, \"name\": \"volary/n/pin\"}\n", root(n)); err != nil {
				return
			}
		}
	}
}

func TestAListWithoutEndIsGivenUp(t *testing.T) {
	s := pretender(t, 0, listing(func(int) bool { return true }))
	s.maxPins = 1000
	for _, what := range []string{"list", "held"} {
		if err := asks(s)[what](t.Context()); !errors.Is(err, pinset.ErrUnavailable) || !errors.Is(err, errNoEnd) {
			t.Errorf("%s of pins of the namespace: %v", what, err)
		}
	}
	s.prefix, s.maxListed = "others/", 2000
	for _, what := range []string{"list", "held"} {
		if err := asks(s)[what](t.Context()); !errors.Is(err, pinset.ErrUnavailable) || !errors.Is(err, errNoEnd) {
			t.Errorf("%s of pins of others: %v", what, err)
		}
	}
}

func TestALongListThatPausesIsTakenWhole(t *testing.T) {
	const pins = 50_000
	s := pretender(t, 2*time.Second, listing(func(n int) bool {
		if n%(pins/5) == 0 {
			time.Sleep(500 * time.Millisecond)
		}
		return n < pins
	}))
	n := 0
	for _, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != pins {
		t.Errorf("%d pins", n)
	}
}

func TestAnAnswerThatDripsEnds(t *testing.T) {
	for name, drop := range map[string]string{"a string": "a", "values": "\"}\n{\"name\": \""} {
		s := pretender(t, 50*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
			text := `{"name": "`
			for {
				if _, err := w.Write([]byte(text)); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				text = drop
				select {
				case <-time.After(20 * time.Millisecond):
				case <-r.Context().Done():
					return
				}
			}
		})
		for what, ask := range asks(s) {
			ctx, done := context.WithTimeout(t.Context(), 10*time.Second)
			if err := ask(ctx); ctx.Err() != nil || !errors.Is(err, pinset.ErrUnavailable) {
				t.Errorf("%s in %s: %v", what, name, err)
			}
			done()
		}
	}
}

func TestWhatDeniesAccessIsTakenAtItsWord(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired} {
		for _, text := range []string{`{"error":"unauthorized"}`, `{"code":401,"message":"` + strings.Repeat("x", 5<<20) + `"}`, "<html>"} {
			s := pretender(t, 0, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, status) })
			for what, ask := range asks(s) {
				if err := ask(t.Context()); !errors.Is(err, ErrUnauthorized) || len(err.Error()) > 1000 {
					t.Errorf("%s, %d, %.30s: %.300v", what, status, text, err)
				}
			}
		}
	}
}

func TestALongMessageIsCut(t *testing.T) {
	for _, n := range []int{maxError / 2, 5 << 20} {
		s := pretender(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"code":500,"message":"`+strings.Repeat("x", n)+`"}`, http.StatusInternalServerError)
		})
		if _, err := s.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "xxx") || len(err.Error()) > 1000 {
			t.Errorf("%d: %.300v", n, err)
		}
	}
}
