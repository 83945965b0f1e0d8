package api

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type fakeNetwork struct {
	state NetworkState
	peers []NetworkPeer
}

func (f fakeNetwork) State(context.Context) (NetworkState, error) { return f.state, nil }

func (f fakeNetwork) Peers(context.Context) ([]NetworkPeer, error) { return f.peers, nil }

func TestTheNetworkCrosses(t *testing.T) {
	f := fakeNetwork{
		state: NetworkState{Addrs: []string{"/ip4/10.0.0.1/tcp/4001/p2p/12D3"}, Connected: 2, Configured: 3, Missing: 1, InBytes: 7, OutBytes: 8},
		peers: []NetworkPeer{
			{ID: "12D4", Addrs: []string{"/ip4/10.0.0.2/tcp/4001"}, Configured: true, Connected: true, Since: time.Now().UTC(), Direction: "in", Latency: time.Millisecond, Agent: "volary/1"},
			{ID: "12D5", Addrs: []string{}, Error: "no answer in time"},
		},
	}
	h := newMemoryHost().host()
	h.Network = f
	remote := dial(t, serve(t, h, ServerOptions{})).Network
	st, err := remote.State(t.Context())
	if diff := cmp.Diff(f.state, st); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	peers, err := remote.Peers(t.Context())
	if diff := cmp.Diff(f.peers, peers); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestAHostThatIsInNoNetworkSaysSo(t *testing.T) {
	remote := dial(t, serve(t, newMemoryHost().host(), ServerOptions{})).Network
	if _, err := remote.State(t.Context()); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("the error is %v", err)
	}
	if _, err := remote.Peers(t.Context()); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("the error is %v", err)
	}
}
