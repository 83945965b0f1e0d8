//go:build real

package cluster_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/cluster/clustertest"
)

// without runs f while some peers are dead, and brings them back.
func without(t *testing.T, dead []*clustertest.Node, f func()) {
	t.Helper()
	back := func() {
		for _, n := range dead {
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if err := three.Ready(within(t, time.Minute), three.Nodes...); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range dead {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	defer back()
	f()
}

// missed waits until the first peer has noticed that only some are alive.
func missed(t *testing.T, s *cluster.Set, alive int) {
	t.Helper()
	until(t, "the dead are missed", func() bool {
		peers, err := s.Peers(t.Context())
		return err == nil && len(peers) == alive
	})
}

func TestOneOfThreeKilledHoldsUpNoPinAndGetsAllWhenItReturns(t *testing.T) {
	s := fresh(t, cluster.Options{})
	before, during := stored(t, three.Nodes[0]), stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: before}, cluster.Placement{Min: 3, Max: 3})
	wait(t, s, before, cluster.WaitOptions{})
	without(t, three.Nodes[2:], func() {
		missed(t, s, 2)
		place(t, s, pinset.Pin{Root: during}, cluster.Placement{Min: 2, Max: 3})
		if got := states(wait(t, s, during, cluster.WaitOptions{})); got != "peer-1 pinned, peer-2 pinned" {
			t.Errorf("pinned meanwhile: %s", got)
		}
		st := status(t, s, before)
		if st.State != pinset.Pinning || states(st) != "peer-1 pinned, peer-2 pinned, peer-3 cluster_error" {
			t.Errorf("pinned before: %s: %s", st.State, states(st))
		}
		_, err := s.Wait(within(t, 3*time.Second), before, cluster.WaitOptions{})
		var lag *cluster.LagError
		if !errors.As(err, &lag) || lag.Have != 2 || lag.Want != 3 || !strings.Contains(err.Error(), "peer-3: cluster_error") {
			t.Errorf("waiting for the dead: %v", err)
		}
		wantError(t, s.Add(t.Context(), pinset.Pin{Root: stored(t, three.Nodes[0])}), nil)
		err = s.Place(t.Context(), pinset.Pin{Root: stored(t, three.Nodes[0])}, cluster.Placement{Min: 3, Max: 3})
		if err == nil || !strings.Contains(err.Error(), "not enough") || !strings.Contains(err.Error(), three.Nodes[0].REST()) {
			t.Errorf("three replicas of two peers: %v", err)
		}
	})
	if got := states(wait(t, s, before, cluster.WaitOptions{})); got != "peer-1 pinned, peer-2 pinned, peer-3 pinned" {
		t.Errorf("after its return: %s", got)
	}
	n := 0
	for p, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		wait(t, s, p.Root, cluster.WaitOptions{})
	}
	if n != 3 {
		t.Errorf("%d pins, want 3", n)
	}
}

func TestADeadPeersReplicaIsMadeElsewhere(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 2, Max: 2, Peers: []string{three.Nodes[0].ID, three.Nodes[2].ID}})
	if got := states(wait(t, s, root, cluster.WaitOptions{})); got != "peer-1 pinned, peer-2 remote, peer-3 pinned" {
		t.Fatalf("before: %s", got)
	}
	without(t, three.Nodes[2:], func() {
		missed(t, s, 2)
		wait(t, s, root, cluster.WaitOptions{})
		if got := states(status(t, s, root)); got != "peer-1 pinned, peer-2 pinned" {
			t.Errorf("after the death of peer-3: %s", got)
		}
	})
}

func TestTwoOfThreeKilledRefusesNewPinsAndLosesNone(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root, later := stored(t, three.Nodes[0]), stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: root, Name: "kept"}, cluster.Placement{Min: 2, Max: 3})
	wait(t, s, root, cluster.WaitOptions{Goal: cluster.Max})
	without(t, three.Nodes[1:], func() {
		missed(t, s, 1)
		if err := s.Place(t.Context(), pinset.Pin{Root: later}, cluster.Placement{Min: 2, Max: 3}); err == nil {
			t.Error("two replicas were promised by one peer")
		}
		if st := status(t, s, later); st.State != pinset.Unpinned {
			t.Errorf("what was refused is %s", st.State)
		}
		if st := status(t, s, root); st.State != pinset.Pinning || !strings.HasPrefix(states(st), "peer-1 pinned, peer-2 cluster_error") {
			t.Errorf("pinned before: %s: %s", st.State, states(st))
		}
	})
	place(t, s, pinset.Pin{Root: later}, cluster.Placement{Min: 2, Max: 3})
	wait(t, s, later, cluster.WaitOptions{Goal: cluster.Max})
	wait(t, s, root, cluster.WaitOptions{Goal: cluster.Max})
}

func TestTheNextEndpointIsAskedWhenOneIsDead(t *testing.T) {
	s := fresh(t, cluster.Options{Endpoints: []string{three.Nodes[2].REST(), three.Nodes[1].CTL(), three.Nodes[0].REST()}})
	first := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: first}, cluster.Placement{Min: 2, Max: 2, Peers: []string{three.Nodes[0].ID, three.Nodes[1].ID}})
	wait(t, s, first, cluster.WaitOptions{})
	without(t, three.Nodes[2:], func() {
		wait(t, s, first, cluster.WaitOptions{})
		root := stored(t, three.Nodes[0])
		place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 1, Max: 2, Peers: []string{three.Nodes[0].ID}})
		wait(t, s, root, cluster.WaitOptions{Goal: cluster.One})
		if err := s.Remove(t.Context(), first, ""); err != nil {
			t.Error(err)
		}
		for p, err := range s.All(t.Context()) {
			if err != nil || !p.Root.Equals(root) {
				t.Errorf("listed %v, %v", p, err)
			}
		}
	})
}

func TestAFrozenPeerIsNamedAtTheDeadline(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 3, Max: 3})
	wait(t, s, root, cluster.WaitOptions{})
	if err := three.Nodes[1].Freeze(); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	_, err := s.Wait(within(t, 5*time.Second), root, cluster.WaitOptions{})
	wantError(t, err, context.DeadlineExceeded, "1 of 3 replicas", "peer-2: no answer")
	if st, err := s.Wait(within(t, 10*time.Second), root, cluster.WaitOptions{Goal: cluster.One}); err != nil || !slices.ContainsFunc(st.Replicas, func(r pinset.Replica) bool { return r.Pinned && r.Name == "peer-1" }) {
		t.Errorf("one replica is at the endpoint itself: %+v, %v", st, err)
	}
	if d := time.Since(from); d > 30*time.Second {
		t.Errorf("waited %s, 15 s were asked for at most", d)
	}
	// The one at which a request is stuck is given up for the next.
	through := fresh(t, cluster.Options{Namespace: s.Namespace(), Timeout: 6 * time.Second, Endpoints: []string{three.Nodes[1].REST(), three.Nodes[0].REST()}})
	for p, err := range through.All(t.Context()) {
		if err != nil || !p.Root.Equals(root) {
			t.Errorf("listed %v, %v", p, err)
		}
	}
	if err := three.Nodes[1].Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := three.Ready(within(t, time.Minute), three.Nodes...); err != nil {
		t.Fatal(err)
	}
	wait(t, s, root, cluster.WaitOptions{})
}

// A peer that has been away knows of no pin that was made meanwhile, and says 404.
func TestRemoveReachesAPinThatOnePeerHasNotHeardOf(t *testing.T) {
	s := fresh(t, cluster.Options{})
	elsewhere := fresh(t, cluster.Options{Namespace: s.Namespace(), Endpoints: []string{three.Nodes[1].REST(), three.Nodes[0].REST()}})
	root := stored(t, three.Nodes[0])
	if err := three.Nodes[1].Service.Freeze(); err != nil {
		t.Fatal(err)
	}
	place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 1, Max: 1, Peers: []string{three.Nodes[0].ID}})
	if err := three.Nodes[1].Service.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Remove(t.Context(), root, ""); err != nil {
		t.Fatal(err)
	}
	if err := three.Ready(within(t, time.Minute), three.Nodes...); err != nil {
		t.Fatal(err)
	}
	for _, n := range three.Nodes {
		at := fresh(t, cluster.Options{Namespace: s.Namespace(), Endpoints: []string{n.REST()}})
		until(t, n.Name+" says it is unpinned", func() bool { return status(t, at, root).State == pinset.Unpinned })
	}
}
