package table_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
)

// heal lets all hosts hear of each other until nobody hears anything new.
func (s *sim) heal() {
	s.t.Helper()
	for _, x := range s.nodes {
		x.side = 0
	}
	for round := range 10 {
		news := false
		for _, x := range s.nodes {
			for _, y := range s.nodes {
				if x != y {
					news = y.learn(x.all()) || news
				}
			}
		}
		for _, x := range s.nodes {
			x.settle()
		}
		if !news && round > 2 {
			return
		}
	}
	s.t.Fatal("hosts do not stop to hear news of each other")
}

func (x *node) state() (lines []string) {
	for _, v := range must(x.Volumes())(x.s.t) {
		line := fmt.Sprintf("%s named %v life %d generation %d of %s at %d %s", v.Binding.Name, v.Named, v.Binding.Life, v.Binding.Generation, v.Key, v.Head.Sequence, v.Head.Commit)
		for _, f := range v.Forks {
			line += fmt.Sprintf(" fork %d %s", f.Sequence, f.Commit)
		}
		lines = append(lines, line)
	}
	return lines
}

// simulateWorld lets hosts live for some steps, heals the network, and looks whether they agree on what they should.
func simulateWorld(t testing.TB, dir string, seed, round uint64, steps int) {
	dir = filepath.Join(dir, strconv.FormatUint(round, 10))
	check(t, os.Mkdir(dir, 0o700))
	defer os.RemoveAll(dir)
	s := newSim(t, dir, rand.New(rand.NewPCG(seed, round)))
	defer s.close()
	for range steps {
		if s.step(); t.Failed() {
			return
		}
	}
	s.heal()
	s.agree()
	s.goOn()
	for range 3 { // everything is heard again, in any order
		heads, bindings := slices.Clone(s.heads), slices.Clone(s.bindings)
		s.r.Shuffle(len(heads), func(i, j int) { heads[i], heads[j] = heads[j], heads[i] })
		s.r.Shuffle(len(bindings), func(i, j int) { bindings[i], bindings[j] = bindings[j], bindings[i] })
		for _, x := range s.nodes {
			before := x.state()
			for n := range slices.Chunk(heads, 7) {
				must(x.Learn(t.Context(), table.News{Heads: n}))(t)
			}
			for n := range slices.Chunk(bindings, 3) {
				must(x.Learn(t.Context(), table.News{Bindings: n}))(t)
			}
			if after := x.state(); !slices.Equal(before, after) {
				t.Fatalf("what was known already changed\n%q to\n%q", before, after)
			}
		}
	}
}

// goOn has hosts go on where they are, also on branches that lost, hearing of each other at once: no volume leaves the
// branch that it is on.
func (s *sim) goOn() {
	s.t.Helper()
	at := map[ipns.Name]head.Head{}
	for range simOn {
		s.steps++
		x := s.nodes[s.r.IntN(len(s.nodes))]
		x.act()
		for _, y := range s.nodes {
			y.learn(x.all())
			y.settle()
		}
		for _, v := range must(x.Volumes())(s.t) {
			was, known := at[v.Key]
			if known && v.Head.Commit != was.Commit && !s.ancestors(v.Head.Commit)[was.Commit] {
				s.t.Fatalf("%s was at %s, and is at %s, which does not come after it", v.Binding.Name, say(was), say(v.Head))
			}
			if v.Head.Record != nil {
				at[v.Key] = v.Head
			}
		}
	}
	s.mail = nil
	s.agree()
}

// agree wants all hosts to know the same, and that to be the truth.
func (s *sim) agree() {
	s.t.Helper()
	want := s.nodes[0].state()
	for i, x := range s.nodes {
		if got := x.state(); !slices.Equal(got, want) {
			s.t.Fatalf("host %d knows\n%q, host 0\n%q", i, got, want)
		}
		for _, v := range must(x.Volumes())(s.t) {
			s.right(x, v)
		}
	}
	life := map[string]uint64{}
	for _, b := range s.bindings {
		life[b.Volume.String()] = max(life[b.Volume.String()], b.Life)
	}
	named := map[string]bool{}
	for _, v := range must(s.nodes[0].Volumes())(s.t) {
		if v.Named && named[v.Binding.Name] {
			s.t.Errorf("two volumes are %s", v.Binding.Name)
		}
		named[v.Binding.Name] = named[v.Binding.Name] || v.Named
		if v.Removed() != (life[v.Key.String()]%2 == 1) {
			s.t.Errorf("%s is removed: %v, after %d removals and restorations", v.Key, v.Removed(), life[v.Key.String()])
		}
	}
}

// right wants a volume's tips to be the heads that are no ancestors of another, and their histories to be whole.
func (s *sim) right(x *node, v table.Volume) {
	s.t.Helper()
	tips := v.Tips()
	below := map[cid.Cid]bool{}
	for _, h := range s.heads {
		if h.Volume == v.Key {
			for c := range s.ancestors(h.Commit) {
				below[c] = true
			}
		}
	}
	for _, h := range s.heads {
		isTip := slices.ContainsFunc(tips, func(o head.Head) bool { return o.Commit == h.Commit })
		if h.Volume == v.Key && isTip == below[h.Commit] {
			s.t.Errorf("state %d of %s is an ancestor of another: %v; is it a head: %v", h.Sequence, v.Binding.Name, below[h.Commit], isTip)
		}
	}
	for _, h := range tips {
		left := s.ancestors(h.Commit)
		for a, err := range x.history(s.t.Context(), h.Commit) {
			if err != nil {
				s.t.Errorf("list the history of state %d of %s: %v", h.Sequence, v.Binding.Name, err)
				break
			}
			delete(left, a.CID)
		}
		if len(left) > 0 {
			s.t.Errorf("%d ancestors of state %d of %s are not listed", len(left), h.Sequence, v.Binding.Name)
		}
	}
}

// ancestors returns all of a commit, in truth.
func (s *sim) ancestors(c cid.Cid) map[cid.Cid]bool {
	all, next := map[cid.Cid]bool{}, slices.Clone(s.parents[c])
	for len(next) > 0 {
		c := next[len(next)-1]
		if next = next[:len(next)-1]; !all[c] {
			all[c] = true
			next = append(next, s.parents[c]...)
		}
	}
	return all
}

// simSteps is how much happens in one simulated namespace.
const simSteps = 400

// simOn is how much happens once all hosts hear of each other.
const simOn = 40

func TestASimulatedNamespaceAgrees(t *testing.T) {
	seed, rounds := rand.Uint64(), uint64(3)
	if text := os.Getenv("SIM_SEED"); text != "" {
		seed = must(strconv.ParseUint(text, 10, 64))(t)
	}
	if text := os.Getenv("SIM_ROUNDS"); text != "" {
		rounds = must(strconv.ParseUint(text, 10, 64))(t)
	}
	simulateMany(t, seed, rounds)
}

// simulateMany simulates so many namespaces, in memory.
func simulateMany(t *testing.T, seed, rounds uint64) {
	dir := must(os.MkdirTemp("/dev/shm", "sim"))(t)
	defer os.RemoveAll(dir)
	for round := range rounds {
		t.Run(fmt.Sprintf("SIM_SEED=%d,%d", seed, round), func(t *testing.T) { simulateWorld(t, dir, seed, round, simSteps) })
	}
}
