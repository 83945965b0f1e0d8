package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
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
	s := pretender(t, 6*time.Second, listing(func(n int) bool {
		if n%(pins/5) == 0 {
			time.Sleep(1300 * time.Millisecond) // all of them take longer than what nothing may come for
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

func TestALongMessageIsCut(t *testing.T) {
	for _, n := range []int{4 << 10, 5 << 20} {
		s := pretender(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"code":500,"message":"`+strings.Repeat("x", n)+`"}`, http.StatusInternalServerError)
		})
		if _, err := s.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "xxx") || len(err.Error()) > 1000 {
			t.Errorf("%d: %.300v", n, err)
		}
	}
}
