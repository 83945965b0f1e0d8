//go:build real

package cluster_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/pinsettest"
)

func TestWaitReachesEachGoal(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 2, Max: 3})
	for _, o := range []cluster.WaitOptions{
		{Goal: cluster.One}, {Goal: cluster.Local, Local: three.Nodes[0].ID}, {}, {Goal: cluster.Max}, {Replicas: 3},
	} {
		told := 0
		o.Progress = func(pinset.Status) { told++ }
		wait(t, s, root, o)
		if told == 0 {
			t.Errorf("%+v: no progress was told", o)
		}
	}
	everywhere := stored(t, three.Nodes[1])
	place(t, s, pinset.Pin{Root: everywhere}, cluster.Placement{Min: cluster.Everywhere, Max: cluster.Everywhere})
	if st := wait(t, s, everywhere, cluster.WaitOptions{}); states(st) != "peer-1 pinned, peer-2 pinned, peer-3 pinned" {
		t.Errorf("everywhere: %s", states(st))
	}
}

func TestWaitNamesThePeersThatLagAtTheDeadline(t *testing.T) {
	s := fresh(t, cluster.Options{})
	nobodyHas := pinsettest.Root(int(serial.Add(1)) + 1e6)
	place(t, s, pinset.Pin{Root: nobodyHas}, cluster.Placement{Min: 3, Max: 3})
	from := time.Now()
	st, err := s.Wait(within(t, 5*time.Second), nobodyHas, cluster.WaitOptions{})
	var lag *cluster.LagError
	if !errors.As(err, &lag) || !errors.Is(err, context.DeadlineExceeded) || lag.Have != 0 || lag.Want != 3 || st.State != pinset.Pinning {
		t.Fatalf("%v: %+v", err, st)
	}
	for _, name := range []string{"peer-1: pin", "peer-2: pin", "peer-3: pin", "0 of 3"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q says nothing of %q", err, name)
		}
	}
	if d := time.Since(from); d > 30*time.Second {
		t.Errorf("waited %s, 5 s were asked for", d)
	}
	if err := s.Remove(t.Context(), nobodyHas, ""); err != nil {
		t.Error(err)
	}
}

func TestWaitEndsForWhatIsNotPinned(t *testing.T) {
	s := fresh(t, cluster.Options{})
	_, err := s.Wait(within(t, 30*time.Second), pinsettest.Root(2e6), cluster.WaitOptions{})
	wantError(t, err, pinset.ErrNotPinned, three.Nodes[0].REST())
}

func TestRecoverTriesAgainAndTellsWhatCameOfIt(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: root}, cluster.Placement{})
	wait(t, s, root, cluster.WaitOptions{Goal: cluster.Max})
	st, err := s.Recover(t.Context(), root)
	if err != nil || st.State != pinset.Pinned || len(st.Replicas) != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	if st, err := s.Recover(t.Context(), pinsettest.Root(3e6)); err != nil || st.State != pinset.Unpinned {
		t.Errorf("what is not pinned: %+v, %v", st, err)
	}
}

func TestMoreReplicasThanThereCanBeAreNotWaitedFor(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 1, Max: 2})
	if _, err := s.Wait(within(t, 20*time.Second), root, cluster.WaitOptions{Replicas: 3}); !errors.Is(err, cluster.ErrTooMany) {
		t.Errorf("three of at most two: %v", err)
	}
	everywhere := stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: everywhere}, cluster.Placement{Min: cluster.Everywhere, Max: cluster.Everywhere})
	if _, err := s.Wait(within(t, 20*time.Second), everywhere, cluster.WaitOptions{Replicas: 4}); !errors.Is(err, cluster.ErrTooMany) {
		t.Errorf("four of three peers: %v", err)
	}
	wait(t, s, everywhere, cluster.WaitOptions{Replicas: 3})
}

func TestAllReplicasAreToldInOneGo(t *testing.T) {
	s := fresh(t, cluster.Options{})
	both, one := stored(t, three.Nodes[0]), stored(t, three.Nodes[1])
	place(t, s, pinset.Pin{Root: both, Name: "both"}, cluster.Placement{Min: 2, Max: 2})
	place(t, s, pinset.Pin{Root: one, Name: "one"}, cluster.Placement{Min: 1, Max: 1})
	wait(t, s, both, cluster.WaitOptions{})
	wait(t, s, one, cluster.WaitOptions{})
	other := fresh(t, cluster.Options{})
	place(t, other, pinset.Pin{Root: inline(t, -1), Name: "of another namespace"}, cluster.Placement{Min: 1, Max: 1})
	all, err := s.Held(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[cid.Cid]pinset.Held{}
	for _, h := range all {
		got[h.Root] = h
	}
	want := map[cid.Cid]pinset.Held{
		both: {Root: both, State: pinset.Pinned, Have: 2, Min: 2, Max: 2},
		one:  {Root: one, State: pinset.Pinned, Have: 1, Min: 1, Max: 1},
	}
	if len(all) != 2 || !maps.Equal(got, want) {
		t.Errorf("replicas of all: %+v, want %+v", all, want)
	}
	gone := fresh(t, cluster.Options{Endpoints: []string{"http://127.0.0.1:1"}})
	if all, err := gone.Held(t.Context()); !errors.Is(err, pinset.ErrUnavailable) {
		t.Errorf("of a cluster that is away: %v, %v", all, err)
	}
}
