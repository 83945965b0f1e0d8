package publish_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/volary/volary/volume"
)

// TestWhateverHostsDoNothingIsLostAndAMergeEndsAllForks has hosts write files of their own, stay mounted or not, hear of
// each other now and then, and merge; at the end all of it is in one state that every host has.
func TestWhateverHostsDoNothingIsLostAndAMergeEndsAllForks(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t)
			hosts := []*host{w.host(), w.host(), w.host()}
			hosts[0].do(&volume.Create{Name: "data"})
			want := map[string]string{}
			mounted := map[*host]bool{}
			for _, h := range hosts {
				h.learn()
			}
			for step := range 60 {
				switch h := hosts[r.IntN(3)]; r.IntN(8) {
				case 0, 1, 2:
					file := fmt.Sprint("f", step)
					h.commit("data", file)
					want[file], mounted[h] = file, true
				case 3, 4:
					h.learn()
				case 5, 6:
					if mounted[h] {
						h.do(&volume.Unmount{Name: "data"})
					}
					mounted[h] = false
				case 7:
					if !mounted[h] {
						h.do(&volume.Merge{Name: "data"})
					}
				}
			}
			for _, h := range hosts {
				if mounted[h] {
					h.do(&volume.Unmount{Name: "data"})
				}
			}
			for range 2 {
				for _, h := range hosts {
					h.learn()
				}
			}
			for _, h := range hosts[1:] {
				if got, first := h.names()["data"], hosts[0].names()["data"]; got != first {
					t.Errorf("hosts are at %s and %s", first, got)
				}
			}
			if res := hosts[r.IntN(3)].do(&volume.Merge{Name: "data"}); res.Merged != nil && len(res.Merged.Conflicts) > 0 {
				t.Errorf("conflicts: %v", res.Merged.Conflicts)
			}
			for _, h := range hosts {
				h.learn()
				if forks := h.forks("data"); len(forks) > 0 {
					t.Errorf("there are still forks %v", forks)
				}
				w.wantFiles(h.names()["data"], want)
			}
			if !slices.ContainsFunc(hosts, func(h *host) bool { return h.info("data").Sequence > 3 }) {
				t.Error("nothing much was done")
			}
		})
	}
}
