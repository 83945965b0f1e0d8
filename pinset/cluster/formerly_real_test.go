//go:build real

package cluster_test

import (
	"testing"
	"time"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
)

func TestPinsOfANamespaceThatBecameThisOneAreThisOnes(t *testing.T) {
	before := fresh(t, cluster.Options{Namespace: "before"})
	now := fresh(t, cluster.Options{Namespace: "now", Formerly: []string{"before"}})
	at := time.Unix(1e9, 0)
	peoples := pinset.Pin{Root: stored(t, three.Nodes[0]), Name: "peoples", Created: at}
	volumes := pinset.Pin{Root: stored(t, three.Nodes[0]), Owner: "volume/k51before", Name: "data/1", Created: at}
	both := pinset.Pin{Root: stored(t, three.Nodes[0]), Owner: "volume/k51before", Name: "data/2", Created: at}
	boths := pinset.Pin{Root: both.Root, Name: "kept", Created: at}
	for _, p := range []pinset.Pin{peoples, volumes, both, boths} {
		place(t, before, p, cluster.Placement{})
	}
	listed := map[string]bool{}
	for p, err := range now.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if listed[p.Name] = true; p.Owner != "" {
			t.Errorf("listed %+v, which is of another key", p)
		}
	}
	if len(listed) != 2 || !listed["peoples"] || !listed["kept"] {
		t.Errorf("listed are %v", listed)
	}
	// What is said again is said in the name of this one.
	place(t, now, peoples, cluster.Placement{})
	if st := status(t, before, peoples.Root); st.State != pinset.Unpinned {
		t.Errorf("the namespace before has it as %s", st.State)
	}
	if st := status(t, now, peoples.Root); len(st.Pins) != 1 || st.Pins[0].Name != "peoples" {
		t.Errorf("%+v", st)
	}
	// A volume lets go of what it was before, and of nothing that people keep.
	for _, p := range []pinset.Pin{volumes, both} {
		if err := now.Remove(t.Context(), p.Root, "volume/k51now"); err != nil {
			t.Fatal(err)
		}
	}
	if st := status(t, before, volumes.Root); st.State != pinset.Unpinned {
		t.Errorf("what the volume let go of is %s", st.State)
	}
	if st := status(t, now, both.Root); len(st.Pins) != 1 || st.Pins[0].Name != "kept" {
		t.Errorf("what people keep as well is %+v", st)
	}
}
