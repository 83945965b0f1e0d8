//go:build real

package cluster_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/cluster/clustertest"
	"github.com/volary/volary/pinset/pinsettest"
)

// three is the cluster of three peers that all tests share. A test that takes a peer away brings it back.
var three *clustertest.Cluster

func TestMain(m *testing.M) {
	clustertest.Isolate()
	os.Exit(withCluster(m.Run))
}

func withCluster(run func() int) int {
	dir, err := os.MkdirTemp("", "volary-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	three, err = clustertest.Start(context.Background(), clustertest.Options{Dir: dir, Min: 2, Max: 3})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := run()
	if err := three.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var serial atomic.Int64

// fresh makes a set of a new namespace at the first peer, unless o says otherwise.
func fresh(t *testing.T, o cluster.Options) *cluster.Set {
	t.Helper()
	if o.Namespace == "" {
		o.Namespace = fmt.Sprintf("test-%d", serial.Add(1))
	}
	if o.Endpoints == nil {
		o.Endpoints = []string{three.Nodes[0].REST()}
	}
	s, err := cluster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stored puts a new block into a node's Kubo.
func stored(t *testing.T, n *clustertest.Node) cid.Cid {
	t.Helper()
	text, err := n.PutBlock(t.Context(), fmt.Appendf(nil, "block %d", serial.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cid.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// within is a context that ends before the test does.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func place(t *testing.T, s *cluster.Set, p pinset.Pin, pl cluster.Placement) {
	t.Helper()
	if err := s.Place(within(t, time.Minute), p, pl); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, s *cluster.Set, root cid.Cid, o cluster.WaitOptions) pinset.Status {
	t.Helper()
	st, err := s.Wait(within(t, time.Minute), root, o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func status(t *testing.T, s *cluster.Set, root cid.Cid) pinset.Status {
	t.Helper()
	st, err := s.Status(within(t, time.Minute), root)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// states says what each peer says, by name.
func states(st pinset.Status) string {
	var all []string
	for _, r := range st.Replicas {
		all = append(all, r.Name+" "+r.State)
	}
	return strings.Join(all, ", ")
}

// until waits for a condition that no call waits for.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func TestSetKeepsTheContract(t *testing.T) {
	pinsettest.Run(t, func(t *testing.T) (pinset.Set, func(int) cid.Cid) {
		roots := map[int]cid.Cid{}
		for n := range 60 {
			roots[n] = stored(t, three.Nodes[0])
		}
		return fresh(t, cluster.Options{}), func(n int) cid.Cid { return roots[n] }
	})
}

func TestPeersHoldWhatIsPlaced(t *testing.T) {
	s := fresh(t, cluster.Options{})
	p := pinset.Pin{Root: stored(t, three.Nodes[0]), Name: "vol/7", Meta: map[string]string{"record": "r"}, Created: time.Now()}
	expire := time.Now().Add(time.Hour)
	place(t, s, p, cluster.Placement{
		Min: 1, Max: 2, Peers: []string{three.Nodes[2].ID}, Expire: expire, Origins: []string{three.Nodes[0].Swarm()},
	})
	st := wait(t, s, p.Root, cluster.WaitOptions{Goal: cluster.Max})
	if st.Min != 1 || st.Max != 2 || st.State != pinset.Pinned || len(st.Replicas) != 3 || !st.Replicas[2].Pinned {
		t.Errorf("status %+v", st)
	}
	if st.Replicas[2].Name != "peer-3" || st.Replicas[2].Peer != three.Nodes[2].ID || st.Replicas[2].State != "pinned" {
		t.Errorf("third peer %+v", st.Replicas[2])
	}
	if got, err := three.Nodes[2].Pins(t.Context(), p.Root.String()); err != nil || !got {
		t.Errorf("the third peer's Kubo pins it: %v, %v", got, err)
	}
	raw := rawPin(t, three.Nodes[1], p.Root)
	if raw.Name != "volary/"+s.Namespace()+"/vol/7" || len(raw.Origins) != 1 || raw.ExpireAt.Unix() != expire.Unix() {
		t.Errorf("the second peer has %+v", raw)
	}
	if got := raw.Allocations; len(got) != 2 || got[0] != three.Nodes[2].ID {
		t.Errorf("allocated to %v, want the third peer first", got)
	}
}

func TestTagsChoosePeers(t *testing.T) {
	s := fresh(t, cluster.Options{})
	for _, n := range three.Nodes {
		root := stored(t, three.Nodes[0])
		place(t, s, pinset.Pin{Root: root}, cluster.Placement{Min: 1, Max: 1, Tags: map[string]string{"name": n.Name, "group": "default"}})
		if got := rawPin(t, three.Nodes[0], root).Allocations; !slices.Equal(got, []string{n.ID}) {
			t.Errorf("tagged %s: allocated to %v, want %s", n.Name, got, n.ID)
		}
	}
}

func TestAnUpdateOfTheParentStillSaysAllOfItsOwn(t *testing.T) {
	s := fresh(t, cluster.Options{})
	parent, child := stored(t, three.Nodes[0]), stored(t, three.Nodes[0])
	place(t, s, pinset.Pin{Root: parent, Name: "vol/1", Meta: map[string]string{"n": "1"}}, cluster.Placement{Min: 1, Max: 1})
	wait(t, s, parent, cluster.WaitOptions{})
	p := pinset.Pin{Root: child, Name: "vol/2", Meta: map[string]string{"n": "2"}, Created: time.Unix(1e9, 5)}
	place(t, s, p, cluster.Placement{Min: 3, Max: 3, Update: parent})
	st := wait(t, s, child, cluster.WaitOptions{Goal: cluster.Max})
	if st.Pins[0].Name != p.Name || !cmp.Equal(st.Pins[0].Meta, p.Meta) || !st.Pins[0].Created.Equal(p.Created) || st.Min != 3 {
		t.Errorf("got %+v", st)
	}
	if status(t, s, parent).State != pinset.Pinned {
		t.Error("the parent is not pinned any more")
	}
	orphan := pinset.Pin{Root: stored(t, three.Nodes[0])}
	place(t, s, orphan, cluster.Placement{Min: 1, Max: 1, Update: stored(t, three.Nodes[0])})
	wait(t, s, orphan.Root, cluster.WaitOptions{Replicas: 1})
}

func TestSayingTheSameAgainTellsTheClusterNothing(t *testing.T) {
	s := fresh(t, cluster.Options{})
	p := pinset.Pin{Root: stored(t, three.Nodes[0]), Name: "a"}
	pl := cluster.Placement{Min: 2, Max: 2, Expire: time.Now().Add(time.Hour), Origins: []string{three.Nodes[0].Swarm()}}
	place(t, s, p, pl)
	before := rawPin(t, three.Nodes[0], p.Root).Timestamp
	until(t, "the clock shows another second", func() bool { return time.Now().Unix() > before.Unix()+1 })
	place(t, s, p, pl)
	// The peer records in the order of the requests, and some time after it answered.
	place(t, s, pinset.Pin{Root: stored(t, three.Nodes[0])}, pl)
	if after := rawPin(t, three.Nodes[0], p.Root).Timestamp; !after.Equal(before) {
		t.Errorf("pinned at %s and again at %s", before, after)
	}
}

func TestPinsOfOthersAreLeftAlone(t *testing.T) {
	mine, theirs := fresh(t, cluster.Options{}), fresh(t, cluster.Options{})
	p := pinset.Pin{Root: stored(t, three.Nodes[0]), Name: "theirs", Created: time.Unix(1e9, 0)}
	place(t, theirs, p, cluster.Placement{})
	wantError(t, mine.Add(t.Context(), pinset.Pin{Root: p.Root, Name: "mine"}), cluster.ErrForeign, "theirs", three.Nodes[0].REST())
	if err := mine.Remove(t.Context(), p.Root, ""); err != nil {
		t.Error(err)
	}
	if st := status(t, mine, p.Root); st.State != pinset.Unpinned {
		t.Errorf("what others pinned is %s", st.State)
	}
	for got := range mine.All(t.Context()) {
		t.Errorf("listed %v", got)
	}
	if st := status(t, theirs, p.Root); st.Pins[0].Name != "theirs" {
		t.Errorf("their pin is now %+v", st)
	}
}

func TestPeersAreListedWithTheKuboBesideThem(t *testing.T) {
	got, err := fresh(t, cluster.Options{}).Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []cluster.Peer
	for _, n := range three.Nodes {
		want = append(want, cluster.Peer{ID: n.ID, Name: n.Name, KuboID: n.KuboID})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
}

func TestARootIsKeptAsAllItsOwnersAskForIt(t *testing.T) {
	s := fresh(t, cluster.Options{})
	root := stored(t, three.Nodes[0])
	volume := pinset.Pin{Root: root, Owner: "volume/a:b c", Name: "vol/3", Meta: map[string]string{"k:1": "v"}, Created: time.Unix(1e9, 0)}
	people := pinset.Pin{Root: root, Name: "kept", Created: time.Unix(2e9, 0)}
	place(t, s, volume, cluster.Placement{Min: 3, Max: 3, Expire: time.Now().Add(time.Hour), Origins: []string{three.Nodes[0].Swarm()}})
	place(t, s, people, cluster.Placement{Min: 1, Max: 1})
	st := wait(t, s, root, cluster.WaitOptions{})
	if diff := cmp.Diff([]pinset.Pin{people, volume}, st.Pins, cmp.Comparer(cid.Cid.Equals), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("pins (-want +got):\n%s", diff)
	}
	got := rawPin(t, three.Nodes[0], root)
	if st.Min != 3 || st.Max != 3 || len(got.Origins) != 1 || got.ExpireAt.Unix() > 0 || got.Name != "volary/"+s.Namespace()+"/vol/3" {
		t.Errorf("kept as %+v, %d to %d times", got, st.Min, st.Max)
	}
	if err := s.Remove(t.Context(), root, volume.Owner); err != nil {
		t.Fatal(err)
	}
	if st := wait(t, s, root, cluster.WaitOptions{}); len(st.Pins) != 1 || st.Pins[0].Name != "kept" {
		t.Errorf("without the volume: %+v", st.Pins)
	}
}
