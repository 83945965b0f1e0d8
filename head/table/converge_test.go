package table_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
)

// message is one thing that hosts tell each other.
type message struct {
	head    *head.Head
	binding *namespace.Binding
}

func news(ms []message) (n table.News) {
	for _, m := range ms {
		if m.head != nil {
			n.Heads = append(n.Heads, *m.head)
		} else {
			n.Bindings = append(n.Bindings, *m.binding)
		}
	}
	return n
}

// simHost is one of several hosts that change volumes and hear of each other now and then.
type simHost struct {
	*table.Table
	w     *world
	r     *rand.Rand
	heard []message // all that it made or heard of
}

func (s *simHost) hear(ms []message) {
	s.w.t.Helper()
	ms = slices.Clone(ms)
	s.r.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	for len(ms) > 0 {
		n := 1 + s.r.IntN(len(ms))
		must(s.Learn(s.w.t.Context(), news(ms[:n])))(s.w.t)
		s.heard = append(s.heard, ms[:n]...)
		ms = ms[n:]
	}
}

func (s *simHost) advance(prev cid.Cid, h head.Head, b *namespace.Binding) {
	s.w.t.Helper()
	check(s.w.t, s.Advance(s.w.t.Context(), prev, h, b))
	s.heard = append(s.heard, message{head: &h})
	if b != nil {
		s.heard = append(s.heard, message{binding: b})
	}
}

// act does something with a name.
func (s *simHost) act(name, other string) {
	s.w.t.Helper()
	v, err := s.Named(name)
	if errors.Is(err, table.ErrUnknown) {
		if s.r.IntN(3) > 0 && s.restore(name) {
			return
		}
		key, g, err := s.NewKey(s.w.n, name)
		check(s.w.t, err)
		b := s.w.bind(name, key, g, 0)
		s.advance(cid.Undef, s.commit(b), &b)
		return
	}
	check(s.w.t, err)
	if v.Head.Record == nil {
		return // only its name was heard of yet
	}
	switch s.r.IntN(8) {
	case 0:
		s.rebind(v, v.Binding.Name, v.Binding.Life+1, s.commit(v.Binding, v.Head))
	case 1, 2:
		if _, err := s.Named(other); errors.Is(err, table.ErrUnknown) {
			s.rebind(v, other, v.Binding.Life, v.Head)
		}
	case 3:
		s.advance(v.Head.Commit, s.commit(v.Binding, append([]head.Head{v.Head}, v.Forks...)...), nil)
	default:
		s.advance(v.Head.Commit, s.commit(v.Binding, v.Head), nil)
	}
}

// restore brings a removed volume back.
func (s *simHost) restore(name string) bool {
	for _, v := range must(s.Volumes())(s.w.t) {
		if v.Removed() && v.Binding.Name == name && v.Head.Record != nil {
			s.rebind(v, name, v.Binding.Life+1, s.commit(v.Binding, v.Head))
			return true
		}
	}
	return false
}

func (s *simHost) rebind(v table.Volume, name string, life uint64, h head.Head) {
	s.w.t.Helper()
	g := must(s.Generation(name, v.Key))(s.w.t)
	b := s.w.bind(name, must(s.w.n.Key(v.Binding))(s.w.t), g, life)
	s.advance(v.Head.Commit, h, &b)
}

// commit makes a commit of a volume, whose key comes from its binding.
func (s *simHost) commit(b namespace.Binding, parents ...head.Head) head.Head {
	s.w.t.Helper()
	var names []string
	for _, p := range parents {
		names = append(names, p.Commit.String())
	}
	h := s.w.commitOf(must(s.w.n.Key(b))(s.w.t), fmt.Sprint(s.r.Uint64()), names...)
	s.w.heads[h.Commit.String()] = h
	return h
}

// state tells all that a host knows, but not whom it told.
func (s *simHost) state() (lines []string) {
	for _, v := range must(s.Volumes())(s.w.t) {
		line := fmt.Sprintf("%s named %v life %d generation %d of %s at %s", v.Binding.Name, v.Named, v.Binding.Life, v.Binding.Generation, v.Key, v.Head.Commit)
		for _, f := range v.Forks {
			line += " fork " + f.Commit.String()
		}
		lines = append(lines, line)
	}
	return lines
}

func TestHostsAgreeOnceTheyHaveHeardOfAll(t *testing.T) {
	seed := rand.Uint64()
	for round := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d,%d", seed, round), func(t *testing.T) { simulate(t, rand.New(rand.NewPCG(seed, round))) })
	}
}

func simulate(t *testing.T, r *rand.Rand) {
	w := newWorld(t)
	hosts := make([]*simHost, 3)
	for i := range hosts {
		hosts[i] = &simHost{Table: w.open(), w: w, r: r}
	}
	names := []string{"a", "b", "c"}
	for range 80 {
		hosts[r.IntN(3)].act(names[r.IntN(3)], names[r.IntN(3)])
		if from, to := r.IntN(3), r.IntN(3); from != to && r.IntN(3) == 0 {
			// Some is lost, and old messages come again.
			heard := slices.Clone(hosts[from].heard)
			r.Shuffle(len(heard), func(i, j int) { heard[i], heard[j] = heard[j], heard[i] })
			hosts[to].hear(heard[:r.IntN(len(heard)+1)])
		}
	}
	var all []message
	for _, s := range hosts {
		all = append(all, s.heard...)
	}
	for _, s := range hosts {
		s.hear(all)
	}
	for i, s := range hosts {
		if got, want := s.state(), hosts[0].state(); !slices.Equal(got, want) {
			t.Errorf("host %d knows\n%q, host 0\n%q", i, got, want)
		}
		if changed := must(s.Learn(t.Context(), news(all)))(t); len(changed) > 0 {
			t.Errorf("host %d: what it knew changed %v", i, changed)
		}
	}
	wantNothingLost(t, w, hosts[0], all)
}

// wantNothingLost wants every head to be a tip or the ancestor of one, names of one volume each, and removed volumes
// removed unless somebody who knew brought them back.
func wantNothingLost(t *testing.T, w *world, s *simHost, all []message) {
	t.Helper()
	kept, named := map[cid.Cid]bool{}, map[string]bool{}
	life := map[string]uint64{}
	for _, m := range all {
		if m.binding != nil {
			life[m.binding.Volume.String()] = max(life[m.binding.Volume.String()], m.binding.Life)
		}
	}
	for _, v := range must(s.Volumes())(t) {
		for _, h := range append([]head.Head{v.Head}, v.Forks...) {
			kept[h.Commit] = true
			for _, a := range w.parents[h.Commit] {
				kept[a.CID] = true
			}
		}
		if v.Named && named[v.Binding.Name] {
			t.Errorf("two volumes are %s", v.Binding.Name)
		}
		named[v.Binding.Name] = named[v.Binding.Name] || v.Named
		if v.Removed() != (life[v.Key.String()]%2 == 1) {
			t.Errorf("%s is removed: %v, after %d removals and restorations", v.Key, v.Removed(), life[v.Key.String()])
		}
	}
	for _, m := range all {
		if m.head != nil && !kept[m.head.Commit] {
			t.Errorf("state %d of %s is lost", m.head.Sequence, m.head.Volume)
		}
	}
}
