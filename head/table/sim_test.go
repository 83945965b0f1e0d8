package table_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
)

// sim is a namespace of hosts that change volumes, and hear of each other as far as they are not cut off. Commits,
// heads, bindings and tables are the real ones; the network, the clocks and what is on each host are made up.
type sim struct {
	t        testing.TB
	r        *rand.Rand
	n        *namespace.Namespace
	blocks   map[cid.Cid]blocks.Block
	parents  map[cid.Cid][]cid.Cid // of each commit
	decoded  map[cid.Cid]*snapshot.Commit
	heads    []head.Head
	bindings []namespace.Binding
	nodes    []*node
	mail     []letter
	steps    int
}

// letter is what one host tells another. It may come late, several times, or never.
type letter struct {
	from, to *node
	news     table.News
}

// node is a host. It is the blocks that are on it, too.
type node struct {
	*table.Table
	s     *sim
	path  string
	side  int                  // hosts of another side are cut off
	clock time.Duration        // by how much it is wrong
	has   map[cid.Cid]bool     // the blocks on it
	base  map[string]cid.Cid   // what is mounted here, by volume
	at    map[string]head.Head // where each volume was last
}

var simNames = []string{"a", "b", "c"}

func newSim(t testing.TB, dir string, r *rand.Rand) *sim {
	s := &sim{t: t, r: r, n: must(namespace.Open(namespace.Secret{1}))(t), blocks: map[cid.Cid]blocks.Block{}, parents: map[cid.Cid][]cid.Cid{},
		decoded: map[cid.Cid]*snapshot.Commit{}}
	for i := range 3 + r.IntN(3) {
		x := &node{s: s, path: filepath.Join(dir, strconv.Itoa(i)), has: map[cid.Cid]bool{}, base: map[string]cid.Cid{}, at: map[string]head.Head{}}
		if r.IntN(3) == 0 {
			x.clock = time.Duration(r.IntN(48)-24) * time.Hour
		}
		x.Table = must(table.Open(x.path, x.history))(t)
		s.nodes = append(s.nodes, x)
	}
	return s
}

func (s *sim) close() {
	for _, x := range s.nodes {
		check(s.t, x.Close())
	}
}

// Get, Has, Put and Sync make a node the blocks that are on it.
func (x *node) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	if !x.has[c] {
		return nil, snapshot.ErrNotFound
	}
	return x.s.blocks[c], nil
}

func (x *node) Has(_ context.Context, cs ...cid.Cid) (has []bool, _ error) {
	for _, c := range cs {
		has = append(has, x.has[c])
	}
	return has, nil
}

func (x *node) Put(_ context.Context, bs ...blocks.Block) error {
	for _, b := range bs {
		x.s.blocks[b.Cid()], x.has[b.Cid()] = b, true
	}
	return nil
}

func (x *node) Sync(context.Context) error { return nil }

func (x *node) commitAt(c cid.Cid) (*snapshot.Commit, error) {
	b, err := x.Get(context.Background(), c)
	if err != nil {
		return nil, err
	}
	if x.s.decoded[c] == nil {
		if x.s.decoded[c], err = snapshot.DecodeCommit(b); err != nil {
			return nil, err
		}
	}
	return x.s.decoded[c], nil
}

func (x *node) history(ctx context.Context, c cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
	return func(yield func(snapshot.Ancestor, error) bool) {
		commit, err := x.commitAt(c)
		if err != nil {
			yield(snapshot.Ancestor{}, err)
			return
		}
		snapshot.History(ctx, x, commit)(yield)
	}
}

// fetch brings a commit and what it takes to list its history here, from a host that is not cut off.
func (x *node) fetch(c cid.Cid) {
	for _, y := range x.s.nodes {
		if x.has[c] || y.side != x.side || !y.has[c] {
			continue
		}
		x.has[c] = true
		for b := range y.has {
			if _, isCommit := x.s.parents[b]; !isCommit {
				x.has[b] = true // chunks of histories, and trees
			}
		}
	}
}

// learn has a node hear news, and looks that no volume goes back.
func (x *node) learn(n table.News) (news bool) {
	x.s.t.Helper()
	for _, h := range n.Heads {
		if x.s.r.IntN(10) > 0 {
			x.fetch(h.Commit)
		}
	}
	changed := must(x.Learn(x.s.t.Context(), n))(x.s.t)
	x.forward()
	return len(changed) > 0
}

// forward looks that no volume went back.
func (x *node) forward() {
	x.s.t.Helper()
	for _, v := range must(x.Volumes())(x.s.t) {
		if was, ok := x.at[v.Key.String()]; ok && head.Compare(v.Head, was) < 0 {
			x.s.t.Fatalf("%s went from %s back to %s", v.Binding.Name, say(was), say(v.Head))
		}
		if v.Head.Record != nil {
			x.at[v.Key.String()] = v.Head
		}
	}
}

func say(h head.Head) string {
	text := fmt.Sprintf("state %d %s", h.Sequence, h.Commit)
	if h.IsFork() {
		text += fmt.Sprintf(", a fork of %d %s,", h.Fork.Sequence, h.Fork.CID)
	}
	return text
}

// told hands what a node made to the network.
func (x *node) told(h *head.Head, b *namespace.Binding) {
	var n table.News
	if h != nil {
		n.Heads = append(n.Heads, *h)
		x.s.heads = append(x.s.heads, *h)
	}
	if b != nil {
		n.Bindings = append(n.Bindings, *b)
		x.s.bindings = append(x.s.bindings, *b)
	}
	for _, y := range x.s.nodes {
		if y != x && x.s.r.IntN(10) > 0 {
			x.s.mail = append(x.s.mail, letter{x, y, n})
		}
	}
	x.forward()
}

// step is one thing that happens anywhere.
func (s *sim) step() {
	s.t.Helper()
	s.steps++
	x, y := s.nodes[s.r.IntN(len(s.nodes))], s.nodes[s.r.IntN(len(s.nodes))]
	switch k := s.r.IntN(100); {
	case k < 45:
		x.act()
	case k < 85:
		s.deliver()
	case k < 90 && x.side == y.side:
		y.learn(x.all())
		y.settle()
	case k < 92:
		x.retain()
	case k < 94: // an old message comes again
		n := table.News{}
		if len(s.heads) > 0 {
			n.Heads = append(n.Heads, s.heads[s.r.IntN(len(s.heads))])
		}
		if len(s.bindings) > 0 {
			n.Bindings = append(n.Bindings, s.bindings[s.r.IntN(len(s.bindings))])
		}
		x.learn(n)
	case k < 96:
		check(s.t, x.Close())
		x.Table = must(table.Open(x.path, x.history))(s.t)
		x.forward()
	case k < 99:
		sides := 1 + s.r.IntN(3)
		for _, x := range s.nodes {
			x.side = s.r.IntN(sides)
		}
	}
}

func (s *sim) deliver() {
	if len(s.mail) == 0 {
		return
	}
	i := s.r.IntN(len(s.mail))
	if s.r.IntN(2) == 0 {
		i = 0
	}
	m := s.mail[i]
	if s.r.IntN(20) > 0 {
		s.mail = slices.Delete(s.mail, i, i+1)
	}
	if m.from.side == m.to.side {
		m.to.learn(m.news)
	}
}

// all is what a node knows.
func (x *node) all() (n table.News) {
	for _, v := range must(x.Volumes())(x.s.t) {
		if v.Head.Record != nil {
			n.Heads = append(append(n.Heads, v.Head), v.Forks...)
		}
		if v.Binding.Data != nil {
			n.Bindings = append(n.Bindings, v.Binding)
		}
	}
	x.s.r.Shuffle(len(n.Heads), func(i, j int) { n.Heads[i], n.Heads[j] = n.Heads[j], n.Heads[i] })
	return n
}

func (x *node) settle() {
	x.s.t.Helper()
	for _, v := range must(x.Volumes())(x.s.t) {
		for _, h := range v.Tips() {
			x.fetch(h.Commit)
		}
		check(x.s.t, x.Settle(x.s.t.Context(), v.Key))
	}
	x.forward()
}

// retain drops commits that are no heads, but not what lists them.
func (x *node) retain() {
	keep := map[cid.Cid]bool{}
	for _, v := range must(x.Volumes())(x.s.t) {
		for _, h := range v.Tips() {
			keep[h.Commit] = true
		}
	}
	for _, c := range x.base {
		keep[c] = true
	}
	for _, c := range slices.SortedFunc(maps.Keys(x.has), func(a, b cid.Cid) int { return slices.Compare(a.Bytes(), b.Bytes()) }) {
		if _, isCommit := x.s.parents[c]; isCommit && !keep[c] && x.s.r.IntN(2) == 0 {
			delete(x.has, c)
		}
	}
}
