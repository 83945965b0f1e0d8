package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/pinsettest"
)

// fakeReplicas says the same of every root, and remembers what it was asked.
type fakeReplicas struct {
	status  pinset.Status
	waiting []Waiting
	wait    func(context.Context, WaitOptions) error
	held    []pinset.Held
	before  []Waited // what a wait tells first
	instead cid.Cid  // what it then waits for, if defined
	asked   []string
}

func (f *fakeReplicas) say(what string, root cid.Cid) (pinset.Status, error) {
	f.asked = append(f.asked, what+" "+root.String())
	return f.status, nil
}

func (f *fakeReplicas) Status(_ context.Context, root cid.Cid) (pinset.Status, error) {
	return f.say("status", root)
}

func (f *fakeReplicas) Recover(_ context.Context, root cid.Cid) (pinset.Status, error) {
	return f.say("recover", root)
}

func (f *fakeReplicas) Wait(ctx context.Context, root cid.Cid, o WaitOptions) (Waited, error) {
	for _, w := range f.before {
		if o.Progress != nil {
			o.Progress(w)
		}
	}
	if err := f.wait(ctx, o); err != nil {
		return Waited{}, err
	}
	st, err := f.say(fmt.Sprintf("wait %d %s", o.Replicas, o.Timeout), root)
	if f.instead.Defined() {
		root = f.instead
	}
	return Waited{root, st}, err
}

func (f *fakeReplicas) Held(context.Context) ([]pinset.Held, error) { return f.held, nil }

func (f *fakeReplicas) Waiting(context.Context) ([]Waiting, error) { return f.waiting, nil }

func hostWith(r Replicas) *Host {
	h := newMemoryHost().host()
	h.Replicas = r
	return h
}

func TestReplicasCross(t *testing.T) {
	now := time.Now().UTC()
	root := pinsettest.Root(1)
	f := &fakeReplicas{
		status: pinset.Status{
			State: pinset.Pinning, Min: 2, Max: -1, Pins: []pinset.Pin{{Root: root, Owner: "volume/x", Name: "db", Created: now}},
			Replicas: []pinset.Replica{
				{Peer: "12D3", Name: "peer-1", Pinned: true, State: "pinned", Since: now},
				{Peer: "12D4", State: "pin_error", Error: "no such block", Since: now, Attempts: 3},
			},
		},
		waiting: []Waiting{
			{Op: "pin", Root: root, Owner: "volume/x", Since: now, Attempts: 2, Error: "refused", Next: now},
			{Op: "unpin", Root: pinsettest.Root(2), Since: now},
		},
		wait: func(context.Context, WaitOptions) error { return nil },
	}
	h := dial(t, serve(t, hostWith(f), ServerOptions{}))
	ask := func(st pinset.Status, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f.status, st, cmp.Comparer(cid.Cid.Equals)); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	}
	ask(h.Replicas.Status(t.Context(), root))
	ask(h.Replicas.Recover(t.Context(), root))
	askWait := func(w Waited, err error) { ask(w.Status, err) }
	askWait(h.Replicas.Wait(t.Context(), root, WaitOptions{Replicas: 3, Timeout: 1500 * time.Millisecond}))
	askWait(h.Replicas.Wait(t.Context(), root, WaitOptions{}))
	c := root.String()
	if diff := cmp.Diff([]string{"status " + c, "recover " + c, "wait 3 1.5s " + c, "wait 0 0s " + c}, f.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	got, err := h.Replicas.Waiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.waiting, got, cmp.Comparer(cid.Cid.Equals)); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
}

func TestAllReplicasCross(t *testing.T) {
	f := &fakeReplicas{held: []pinset.Held{
		{Root: pinsettest.Root(1), State: pinset.Pinned, Have: 2, Min: 2, Max: 3},
		{Root: pinsettest.Root(2), State: pinset.Pinning, Min: -1, Max: -1},
	}}
	got, err := dial(t, serve(t, hostWith(f), ServerOptions{})).Replicas.Held(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.held, got, cmp.Comparer(cid.Cid.Equals)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAWaitTellsHowFarItHasCome(t *testing.T) {
	newer := pinsettest.Root(2)
	f := &fakeReplicas{
		before:  []Waited{{pinsettest.Root(1), pinset.Status{State: pinset.Unpinned}}, {newer, pinset.Status{State: pinset.Pinning, Min: 2, Max: 2}}},
		status:  pinset.Status{State: pinset.Pinned, Min: 2, Max: 2, Replicas: []pinset.Replica{{Peer: "12D3", Pinned: true, State: "pinned"}}},
		instead: newer, wait: func(context.Context, WaitOptions) error { return nil },
	}
	var told []Waited
	h := dial(t, serve(t, hostWith(f), ServerOptions{}))
	w, err := h.Replicas.Wait(t.Context(), pinsettest.Root(1), WaitOptions{Progress: func(w Waited) { told = append(told, w) }})
	if err != nil {
		t.Fatal(err)
	}
	last := Waited{newer, f.status}
	if diff := cmp.Diff(append(f.before, last, last), append(told, w), cmp.Comparer(cid.Cid.Equals)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	path := prefix + "/replicas/" + pinsettest.Root(1).String() + "/wait"
	code, text := asUser(serve(t, hostWith(f), ServerOptions{}).server, 1000, http.MethodPost, path, "", nil)
	if code != http.StatusOK || strings.Count(text, "\n") != 1 || !strings.Contains(text, newer.String()) {
		t.Errorf("to who does not want to be told: %d %s", code, text)
	}
}

func TestPeersThatLagAreNamedAcrossTheSocket(t *testing.T) {
	lag := fmt.Errorf("wait: %w: 1 of 2 replicas; peer-2: pin_queued", context.DeadlineExceeded)
	f := &fakeReplicas{wait: func(context.Context, WaitOptions) error { return lag }}
	h := dial(t, serve(t, hostWith(f), ServerOptions{}))
	_, err := h.Replicas.Wait(t.Context(), pinsettest.Root(1), WaitOptions{Timeout: time.Second})
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != lag.Error() {
		t.Errorf("%v, want %v", err, lag)
	}
}

func TestWhoGivesUpWaitingEndsTheWaitOfTheDaemon(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	f := &fakeReplicas{wait: func(ctx context.Context, _ WaitOptions) error {
		close(began)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}}
	h := dial(t, serve(t, hostWith(f), ServerOptions{}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := h.Replicas.Wait(ctx, pinsettest.Root(1), WaitOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-ended
}

func TestWithoutAClusterThatIsSaid(t *testing.T) {
	for name, r := range map[string]Replicas{"none": nil, "no replicas": NoReplicas()} {
		h := dial(t, serve(t, hostWith(r), ServerOptions{}))
		root := pinsettest.Root(1)
		_, status := h.Replicas.Status(t.Context(), root)
		_, wait := h.Replicas.Wait(t.Context(), root, WaitOptions{})
		_, again := h.Replicas.Recover(t.Context(), root)
		_, waiting := h.Replicas.Waiting(t.Context())
		_, held := h.Replicas.Held(t.Context())
		for _, err := range []error{status, wait, again, waiting, held} {
			if !errors.Is(err, ErrNoCluster) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestWaitsThatCannotBeMeantAreRefused(t *testing.T) {
	d := serve(t, hostWith(&fakeReplicas{}), ServerOptions{}).server
	for _, query := range []string{"replicas=x", "replicas=-1", "timeout=5", "timeout=-1s", "progress=x"} {
		path := prefix + "/replicas/" + pinsettest.Root(1).String() + "/wait?" + query
		if code, text := asUser(d, 1000, http.MethodPost, path, "", nil); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
}
