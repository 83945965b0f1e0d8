package view

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// node is an entry as a listing holds it, with what few entries have apart: there may be a million of them.
type node struct {
	name           string
	cid            cid.Cid
	id             uint64 // its own number
	size, tsize    uint64
	sec            int64
	nsec, uid, gid uint32
	mode           uint16
	kind           meta.Type
	known          bool // its own block was read, if that takes more than the directory's
	kindKnown      bool // to the directory at least
	described      bool
	sparse         bool
	more           *more
}

type more struct {
	target       string
	xattrs       []meta.Xattr
	xattrsAt     cid.Cid
	major, minor uint32
	below        uint64
	entries      cid.Cid
}

func (n *node) describe(a meta.Attr) {
	n.sec, n.nsec, n.uid, n.gid, n.mode, n.kind, n.sparse = a.Sec, a.Nsec, a.UID, a.GID, a.Mode, a.Type, a.Sparse
	n.more = nil
	if len(a.Xattrs) > 0 || a.XattrsAt.Defined() || a.Major != 0 || a.Minor != 0 || a.Entries.Defined() {
		n.more = &more{xattrs: a.Xattrs, xattrsAt: a.XattrsAt, major: a.Major, minor: a.Minor, below: a.Below, entries: a.Entries}
	}
}

func (n *node) attr() meta.Attr {
	a := meta.Attr{Type: n.kind, Mode: n.mode, UID: n.uid, GID: n.gid, Sec: n.sec, Nsec: n.nsec, Sparse: n.sparse}
	if m := n.more; m != nil {
		a.Xattrs, a.XattrsAt, a.Major, a.Minor, a.Below, a.Entries = m.xattrs, m.xattrsAt, m.major, m.minor, m.below, m.entries
	}
	return a
}

// entry is the node as the snapshot has it.
func (n *node) entry() tree.Entry {
	e := tree.Entry{Name: n.name, Attr: n.attr(), CID: n.cid, Size: n.size, Tsize: n.tsize, HasMeta: n.described}
	if n.more != nil {
		e.Target = n.more.target
	}
	return e
}

func nodeOf(e tree.Entry) node {
	n := node{name: e.Name, cid: e.CID, size: e.Size, tsize: e.Tsize, described: e.HasMeta, known: true, kindKnown: true}
	n.describe(e.Attr)
	if e.Target != "" {
		if n.more == nil {
			n.more = &more{}
		}
		n.more.target = e.Target
	}
	return n
}

func (n *node) target() string {
	if n.more == nil {
		return ""
	}
	return n.more.target
}

// bytes is about how much memory the node takes.
func (n *node) bytes() int {
	b := 112 + len(n.name) + 48
	if n.more != nil {
		b += 160
		for _, x := range n.more.xattrs {
			b += 48 + len(x.Name) + len(x.Value)
		}
	}
	return b
}

// listing is a directory that was read: its entries in byte order of their names.
type listing struct {
	id       uint64
	parent   uint64
	path     string // in the view
	depth    int
	numbered []int32 // of the entries that have numbers of their own, in their order; nil if all have

	mu    sync.RWMutex
	nodes []node

	linked atomic.Pointer[map[int]link] // nil until it was looked for names of hardlinked files
}

// find returns the place of a name, or -1.
func (l *listing) find(name string) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i, ok := slices.BinarySearchFunc(l.nodes, name, func(n node, name string) int { return strings.Compare(n.name, name) })
	if !ok {
		return -1
	}
	return i
}

func (l *listing) len() int { return len(l.nodes) }

// at returns the entry at a place.
func (l *listing) at(i int) node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.nodes[i]
}

// above returns the place of the last entry whose number is at most id, or -1.
func (l *listing) above(id uint64) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.numbered == nil {
		return sort.Search(len(l.nodes), func(i int) bool { return l.nodes[i].id > id }) - 1
	}
	k := sort.Search(len(l.numbered), func(k int) bool { return l.nodes[l.numbered[k]].id > id }) - 1
	if k < 0 {
		return -1
	}
	return int(l.numbered[k])
}

// list reads a directory.
func (v *View) list(ctx context.Context, dir node, path string, parent uint64, depth int) (*listing, error) {
	return v.memory.listings.get(ctx, listingKey{v.number, dir.id}, true, func() (*listing, int, error) {
		l, err := v.load(ctx, dir, path, parent, depth)
		if err != nil {
			return nil, 0, fmt.Errorf("read directory %q: %w", path, err)
		}
		size := 512 + len(path)
		for i := range l.nodes {
			size += l.nodes[i].bytes()
		}
		return l, size, nil
	})
}

func (v *View) load(ctx context.Context, dir node, path string, parent uint64, depth int) (*listing, error) {
	if depth > tree.DefaultMaxDepth {
		return nil, fmt.Errorf("deeper than %d directories: %w", tree.DefaultMaxDepth, snapshot.ErrFormat)
	}
	l := &listing{id: dir.id, parent: parent, path: path, depth: depth}
	e := dir.entry()
	place, all := 0, true
	var slot uint64
	for st, err := range v.snap.Stored(ctx, e) {
		if err != nil {
			return nil, err
		}
		n := stored(st)
		place++
		if st.HasRow {
			if n.id = dir.id + 1 + st.First; st.First >= e.Below || st.Row.Below > e.Below-st.First-1 {
				return nil, fmt.Errorf("row %q says there are more entries than are counted: %w", st.Name, snapshot.ErrFormat)
			}
		} else {
			if all = false; slot == 0 {
				if slot, err = v.slots.of(dir.id); err != nil {
					return nil, err
				}
			}
			if n.id = v.slots.number(slot, place); place > maxPlace {
				return nil, fmt.Errorf("more than %d entries: %w", maxPlace, snapshot.ErrFormat)
			}
		}
		if v.o.Lower && n.kind == meta.CharDevice && n.more == nil {
			continue // 0/0
		}
		l.nodes = append(l.nodes, n)
	}
	l.nodes = slices.Clip(l.nodes)
	for i := range l.nodes {
		if !all && l.nodes[i].id&v.slots.bit() == 0 {
			l.numbered = append(l.numbered, int32(i))
		}
	}
	if !all && l.numbered == nil {
		l.numbered = []int32{}
	}
	return l, nil
}

// stored is an entry as far as its directory tells.
func stored(st tree.Stored) node {
	n := node{name: st.Name, cid: st.Child.CID, tsize: st.Child.Tsize}
	inTree := st.Child.CID.Defined()
	raw := inTree && st.Child.CID.Prefix().Codec == cid.Raw
	if st.HasRow && (!inTree || st.Row.Type.InTree() && !(raw && st.Row.Type != meta.File)) {
		n.described, n.kindKnown = true, true
		n.describe(st.Row.Attr)
	}
	switch {
	case !inTree:
		n.known = true
	case raw && st.Child.Tsize <= snapshot.MaxBlockSize:
		n.known, n.kindKnown, n.size = true, true, st.Child.Tsize
		if !n.described {
			n.kind, n.mode = meta.File, tree.DefaultFileMode
		}
	}
	return n
}

// resolved returns an entry with all that is known of it once its own block was read.
func (v *View) resolved(ctx context.Context, l *listing, i int) (node, error) {
	n := l.at(i)
	if n.known {
		return n, nil
	}
	st := tree.Stored{Name: n.name, Child: unixfs.Child{Name: n.name, CID: n.cid, Tsize: n.tsize}}
	if n.described {
		st.Row, st.HasRow = meta.Row{Name: n.name, Attr: n.attr()}, true
	}
	e, err := v.snap.Resolve(ctx, st)
	if err != nil {
		return n, err
	}
	full := nodeOf(e)
	full.id, full.name, full.cid = n.id, n.name, n.cid
	l.mu.Lock()
	l.nodes[i] = full
	l.mu.Unlock()
	return full, nil
}

// place is where an entry is: in a listing, or the root.
type place struct {
	l *listing // nil for the root
	i int
}

func (p place) path() string {
	if p.l == nil {
		return ""
	}
	return tree.Join(p.l.path, p.l.at(p.i).name)
}

// locate finds the entry of a number, which may be one that an earlier server gave out.
func (v *View) locate(ctx context.Context, id uint64) (place, error) {
	switch {
	case id == fuse.FUSE_ROOT_ID:
		return place{}, nil
	case id&v.slots.bit() != 0:
		return v.locateSlot(ctx, id)
	}
	l, err := v.dir(ctx, fuse.FUSE_ROOT_ID)
	for err == nil {
		i := l.above(id)
		if i < 0 {
			break
		}
		n := l.at(i)
		if n.id == id {
			return place{l, i}, nil
		}
		if n.more == nil || id > n.id+n.more.below {
			break
		}
		if n, err = v.resolved(ctx, l, i); err == nil {
			l, err = v.list(ctx, n, tree.Join(l.path, n.name), l.id, l.depth+1)
		}
	}
	if err == nil {
		err = fmt.Errorf("entry %d: %w", id, errNoSlot)
	}
	return place{}, err
}

func (v *View) locateSlot(ctx context.Context, id uint64) (place, error) {
	dir, at, err := v.slots.decode(id)
	if err != nil {
		return place{}, fmt.Errorf("entry %d: %w", id, err)
	}
	l, err := v.dir(ctx, dir)
	if err != nil {
		return place{}, err
	}
	// Hidden entries are the only reason for it to be further ahead than its place.
	for i := min(at, l.len()) - 1; i >= 0; i-- {
		if l.at(i).id == id {
			return place{l, i}, nil
		}
	}
	return place{}, fmt.Errorf("entry %d: %w", id, errNoSlot)
}

// dir returns the listing of the directory with a number.
func (v *View) dir(ctx context.Context, id uint64) (*listing, error) {
	if l, ok := v.memory.listings.peek(listingKey{v.number, id}); ok {
		return l, nil
	}
	if id == fuse.FUSE_ROOT_ID {
		return v.list(ctx, v.root, "", fuse.FUSE_ROOT_ID, 1)
	}
	p, err := v.locate(ctx, id)
	if err != nil {
		return nil, err
	}
	n, err := v.resolved(ctx, p.l, p.i)
	if err != nil {
		return nil, err
	}
	if n.kind != meta.Dir {
		return nil, errNotDir
	}
	return v.list(ctx, n, tree.Join(p.l.path, n.name), p.l.id, p.l.depth+1)
}

// lookup finds the place of a path in the view.
func (v *View) lookup(ctx context.Context, path string) (place, error) {
	at := place{}
	for name := range strings.SplitSeq(path, "/") {
		n := v.root
		above, parent, depth := "", uint64(fuse.FUSE_ROOT_ID), 1
		if at.l != nil {
			var err error
			if n, err = v.resolved(ctx, at.l, at.i); err != nil {
				return at, err
			}
			above, parent, depth = tree.Join(at.l.path, n.name), at.l.id, at.l.depth+1
		}
		if n.kind != meta.Dir {
			return at, fs.ErrNotExist
		}
		l, err := v.list(ctx, n, above, parent, depth)
		if err != nil {
			return at, err
		}
		i := l.find(name)
		if i < 0 {
			return at, fs.ErrNotExist
		}
		at = place{l, i}
	}
	return at, nil
}
