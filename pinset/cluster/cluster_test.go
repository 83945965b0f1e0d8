package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/pinsettest"
)

// at makes a set whose only endpoint is a handler, and tells how often that was asked.
func at(t *testing.T, h http.HandlerFunc) (s *cluster.Set, url string, asked *int) {
	t.Helper()
	asked = new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		h(w, r)
	}))
	t.Cleanup(server.Close)
	s, err := cluster.New(cluster.Options{Endpoints: []string{server.URL}, Namespace: "n", Settle: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s, server.URL, asked
}

func TestEndpointsThatCannotBeAreRefusedWithoutTheirPassword(t *testing.T) {
	for _, address := range []string{
		"", "host:9094", "ftp://host", "http://", "http://u:secret@host/path", "http://u:secret@host:9094?x=1", "http://u:secret@ho st",
		"/ip4/1.2.3", "/ip4/127.0.0.1/tcp/9096/p2p/12D3KooWKaS7NVKA7sFhzLGfvfZnDw3ZvA3my6dejYnCPnSkZQZi", "/dnsaddr/example.com",
	} {
		_, err := cluster.New(cluster.Options{Endpoints: []string{address}, Namespace: "n"})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, address := range []string{"http://host", "https://host/", "http://[::1]:9094", "/dns4/host/tcp/9094", "/ip6/::1/tcp/1"} {
		if _, err := cluster.New(cluster.Options{Endpoints: []string{address}, Namespace: "n"}); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, namespace := range []string{"", "a/b"} {
		if _, err := cluster.New(cluster.Options{Endpoints: []string{"http://host"}, Namespace: namespace}); err == nil {
			t.Errorf("namespace %q was taken", namespace)
		}
	}
}

func TestAPinThatNoRequestCanCarryIsRefusedBeforeAnyIsMade(t *testing.T) {
	s, _, asked := at(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusInternalServerError) })
	root := pinsettest.Root(1)
	for what, p := range map[string]pinset.Pin{
		"a long name":        {Root: root, Name: strings.Repeat("n", cluster.MaxPin)},
		"much meta":          {Root: root, Meta: map[string]string{"a": strings.Repeat("x", 3000), "b": strings.Repeat("y", 3000)}},
		"meta to be escaped": {Root: root, Meta: map[string]string{"a": strings.Repeat("%", 2200)}},
	} {
		if err := s.Add(t.Context(), p); !errors.Is(err, cluster.ErrTooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, p := range map[string]pinset.Pin{
		"no root": {}, "a name that is no text": {Root: root, Name: "\xff"},
		"meta that is no text": {Root: root, Meta: map[string]string{"k": "\xff"}}, "a key that is no text": {Root: root, Meta: map[string]string{"\xff": ""}},
	} {
		if err := s.Add(t.Context(), p); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	for _, pl := range []cluster.Placement{{Peers: []string{"x"}}, {Origins: []string{"x"}}, {Origins: []string{strings.Repeat("/ip4/1.1.1.1", 600)}}} {
		if err := s.Place(t.Context(), pinset.Pin{Root: root}, pl); err == nil {
			t.Errorf("%.40v was taken", pl)
		}
	}
	if *asked != 0 {
		t.Errorf("the endpoint was asked %d times", *asked)
	}
}

func TestAPinThatDoesNotReadBackIsNotAdded(t *testing.T) {
	root := pinsettest.Root(1)
	s, url, _ := at(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			fmt.Fprintf(w, `{"cid": %q}`, root)
			return
		}
		http.Error(w, `{"code": 404, "message": "not found"}`, http.StatusNotFound)
	})
	wantError(t, s.Add(t.Context(), pinset.Pin{Root: root}), pinset.ErrUnavailable, url, root.String())
}

func TestWhatIsSaidOfAPinIsInNoError(t *testing.T) {
	root := pinsettest.Root(1)
	s, url, _ := at(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
		http.Error(w, `{"code": 404, "message": "not found"}`, http.StatusNotFound)
	})
	err := s.Add(t.Context(), pinset.Pin{Root: root, Meta: map[string]string{"k": "confidential"}})
	wantError(t, err, pinset.ErrUnavailable, url)
	if strings.Contains(err.Error(), "confidential") {
		t.Error(err)
	}
}

func TestAnswersAreToldApart(t *testing.T) {
	for code, want := range map[int]error{
		http.StatusUnauthorized: cluster.ErrUnauthorized, http.StatusForbidden: cluster.ErrUnauthorized,
		http.StatusRequestHeaderFieldsTooLarge: cluster.ErrTooLarge,
		http.StatusBadGateway:                  pinset.ErrUnavailable, http.StatusGatewayTimeout: pinset.ErrUnavailable,
	} {
		s, url, _ := at(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", code) })
		wantError(t, s.Add(t.Context(), pinset.Pin{Root: pinsettest.Root(1)}), want, url)
	}
	s, url, _ := at(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"code": 500, "message": "not enough peers"}`, http.StatusInternalServerError)
	})
	err := s.Add(t.Context(), pinset.Pin{Root: pinsettest.Root(1)})
	if err == nil || errors.Is(err, pinset.ErrUnavailable) || !strings.Contains(err.Error(), "not enough peers") || !strings.Contains(err.Error(), url) {
		t.Errorf("what the cluster cannot do: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, s.Add(ctx, pinset.Pin{Root: pinsettest.Root(1)}), context.Canceled, url)
}

func TestALagSaysWhoAndWhy(t *testing.T) {
	err := &cluster.LagError{
		Root: pinsettest.Root(1), Have: 1, Want: 3, Err: context.DeadlineExceeded, Last: pinset.ErrUnavailable,
		Status: pinset.Status{Replicas: []pinset.Replica{
			{Name: "a", Pinned: true, State: api.TrackerStatusPinned.String()},
			{Name: "b", State: api.TrackerStatusPinError.String(), Error: "disk full"},
			{Peer: "12D3", State: api.TrackerStatusPinQueued.String()},
			{Name: "d", State: api.TrackerStatusRemote.String()},
		}},
	}
	want := "wait for " + pinsettest.Root(1).String() + ": not in time: 1 of 3 replicas; b: pin_error (disk full); 12D3: pin_queued; pin set is unavailable"
	if err.Error() != want || !errors.Is(err, pinset.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

// wantError fails unless err is of a kind and says all of words. A nil kind wants no error.
func wantError(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if kind == nil && err != nil || !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q says nothing of %q", err, w)
		}
	}
}
