package table_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/unixfs"
)

// commit makes a commit of a volume. It is not a head yet.
func (x *node) commit(key crypto.PrivKey, parents ...cid.Cid) (head.Head, error) {
	s := x.s
	s.t.Helper()
	volume := must(namespace.NameOf(key))(s.t)
	dir := must(unixfs.WriteDir(s.t.Context(), x, nil))(s.t)
	c := &snapshot.Commit{
		Tree: dir.CID, Volume: volume.String(), Time: time.Unix(1_700_000_000+int64(s.steps), 0).Add(x.clock).UTC(), Message: fmt.Sprint(s.r.Uint64()),
		Import: snapshot.ImportInfo{Profile: unixfs.Profile}, Consistency: snapshot.Clean, Stats: snapshot.Stats{Dirs: 1}, NoXattrs: true,
	}
	var err error
	if c.Fork, err = x.forkOf(volume, parents); err != nil {
		return head.Head{}, err
	}
	return x.finish(key, c, snapshot.Extend(s.t.Context(), x, c, parents...), parents)
}

// forkOf says of the next commit of a volume, made of some, whether it is one of a branch that lost, by what is known here.
func (x *node) forkOf(volume ipns.Name, parents []cid.Cid) (snapshot.State, error) {
	v, err := x.Volume(volume)
	if errors.Is(err, table.ErrUnknown) {
		return snapshot.State{}, nil
	}
	check(x.s.t, err)
	newest := snapshot.State{CID: v.Head.Commit, Sequence: v.Head.Sequence}
	lost, err := snapshot.Losing(x.s.t.Context(), x, newest, v.Head.IsFork(), parents...)
	if err != nil || !lost {
		return snapshot.State{}, err
	}
	return snapshot.BranchOf(x.s.t.Context(), x, volume.String(), parents...)
}

func (x *node) finish(key crypto.PrivKey, c *snapshot.Commit, err error, parents []cid.Cid) (head.Head, error) {
	if err != nil {
		return head.Head{}, err
	}
	b := must(snapshot.EncodeCommit(c))(x.s.t)
	check(x.s.t, x.Put(x.s.t.Context(), b))
	x.s.parents[b.Cid()] = parents
	return head.SignCommit(key, b.Cid(), c)
}

// advance makes a head the newest of its volume, or a fork if the volume has moved on from what it was made of.
func (x *node) advance(prev cid.Cid, h head.Head, b *namespace.Binding) {
	s := x.s
	s.t.Helper()
	err := x.Advance(s.t.Context(), prev, h, b)
	if errors.Is(err, table.ErrConflict) && b == nil {
		must(x.Learn(s.t.Context(), table.News{Heads: []head.Head{h}}))(s.t)
		err = nil
	}
	check(s.t, err)
	x.told(&h, b)
}

// begin makes a volume, of nothing or of another one's state.
func (x *node) begin(name string) {
	s := x.s
	var parents []cid.Cid
	if from, err := x.Named(simNames[s.r.IntN(len(simNames))]); err == nil && x.has[from.Head.Commit] && s.r.IntN(2) == 0 {
		parents = append(parents, from.Head.Commit)
	}
	key, g, err := x.NewKey(s.n, name)
	check(s.t, err)
	b := must(s.n.Bind(name, key, g, 0))(s.t)
	if h, err := x.commit(key, parents...); err == nil {
		x.advance(cid.Undef, h, &b)
	}
}

// rebind gives a volume another name or life, with a head that says so.
func (x *node) rebind(v table.Volume, name string, life uint64, h head.Head) {
	s := x.s
	g := must(x.Generation(name, v.Key))(s.t)
	b := must(s.n.Bind(name, must(s.n.Key(v.Binding))(s.t), g, life))(s.t)
	x.advance(v.Head.Commit, h, &b)
}

// act does something to a volume.
func (x *node) act() {
	s := x.s
	s.t.Helper()
	name, other := simNames[s.r.IntN(len(simNames))], simNames[s.r.IntN(len(simNames))]
	v, err := x.Named(name)
	if errors.Is(err, table.ErrUnknown) {
		if s.r.IntN(3) > 0 || !x.restore(name) {
			x.begin(name)
		}
		return
	}
	check(s.t, err)
	if v.Head.Record == nil {
		return // only its name was heard of yet
	}
	x.fetch(v.Head.Commit)
	if !x.has[v.Head.Commit] {
		return
	}
	key := must(s.n.Key(v.Binding))(s.t)
	switch s.r.IntN(20) {
	case 0:
		c, err := v.Head.Tombstone(s.t.Context(), x)
		if errors.Is(err, snapshot.ErrNotFound) {
			return // its history was not all fetched
		}
		check(s.t, err)
		h, err := x.finish(key, c, err, []cid.Cid{v.Head.Commit})
		check(s.t, err)
		x.rebind(v, name, v.Binding.Life+1, h)
	case 1, 2:
		if _, err := x.Named(other); errors.Is(err, table.ErrUnknown) {
			x.rebind(v, other, v.Binding.Life, v.Head)
		}
	case 3, 4:
		x.merge(v, key)
	case 5, 6, 7:
		x.base[v.Key.String()] = v.Head.Commit // mounts it
	case 8, 9:
		x.commits(v, key, max(1, s.r.IntN(240)-160))
	default:
		x.commits(v, key, 1)
	}
}

// commits commits what is mounted, which may be behind.
func (x *node) commits(v table.Volume, key crypto.PrivKey, n int) {
	base, mounted := x.base[v.Key.String()]
	if !mounted || !x.has[base] || len(v.Forks) > 0 {
		base = v.Head.Commit
	}
	for range n {
		h, err := x.commit(key, base)
		if err != nil {
			return
		}
		x.advance(base, h, nil)
		base = h.Commit
	}
	x.base[v.Key.String()] = base
}

// merge joins the forks that are here.
func (x *node) merge(v table.Volume, key crypto.PrivKey) {
	parents := []cid.Cid{v.Head.Commit}
	for _, f := range v.Forks {
		if x.fetch(f.Commit); x.has[f.Commit] {
			parents = append(parents, f.Commit)
		}
	}
	if h, err := x.commit(key, parents...); err == nil {
		x.advance(v.Head.Commit, h, nil)
	}
}

// restore brings a removed volume back.
func (x *node) restore(name string) bool {
	for _, v := range must(x.Volumes())(x.s.t) {
		if !v.Removed() || v.Binding.Name != name || v.Head.Record == nil || !x.has[v.Head.Commit] {
			continue
		}
		if h, err := x.commit(must(x.s.n.Key(v.Binding))(x.s.t), v.Head.Commit); err == nil {
			x.rebind(v, name, v.Binding.Life+1, h)
			return true
		}
	}
	return false
}
