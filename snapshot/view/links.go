package view

import (
	"context"
	"errors"
	"io/fs"
	"sort"
	"strings"
	"sync"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// link is what a name of a hardlinked file has instead of its own.
type link struct {
	id    uint64 // of the first name
	nlink uint32
}

// links are the hardlinks of the shown directory, read when they are first needed.
type links struct {
	view *View

	mu     sync.Mutex
	read   bool
	group  map[string]int // by path in the view, the first name's as well
	sorted []string       // those paths
	first  []string       // name of each group
	count  []uint32       // names of each group
}

// load reads the table. One too large to hold is left out: each name is then a file of its own.
func (k *links) load(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.read {
		return nil
	}
	group, groups, size := map[string]int{}, map[string]int{}, 0
	var first []string
	var count []uint32
	join := func(path string, g int) {
		group[path] = g
		count[g]++
	}
	for h, err := range k.view.snap.Hardlinks(ctx) {
		if err != nil {
			return err
		}
		path, in := k.view.inside(h.Path)
		leader, leads := k.view.inside(h.Leader)
		if !in {
			continue
		}
		g, known := groups[h.Leader]
		if !known {
			g = len(first)
			groups[h.Leader] = g
			first, count = append(first, path), append(count, 0)
			if leads {
				first[g] = leader
				join(leader, g)
			}
		}
		join(path, g)
		if size += 2*len(path) + 128; size > maxLinks {
			k.view.log.Warn("too many hardlinks to show them as such", logRoot, k.view.snap.CID)
			group, first, count = nil, nil, nil
			break
		}
	}
	k.group, k.first, k.count, k.read = group, first, count, true
	for path := range group {
		k.sorted = append(k.sorted, path)
	}
	sort.Strings(k.sorted)
	return nil
}

// inside is a path of the snapshot seen from the directory that is shown.
func (v *View) inside(path string) (string, bool) {
	if v.o.Path == "" {
		return path, true
	}
	return strings.CutPrefix(path, v.o.Path+"/")
}

// below reports whether there may be a hardlinked file's name in a directory.
func (k *links) below(dir string) bool {
	if dir == "" {
		return len(k.sorted) > 0
	}
	i := sort.SearchStrings(k.sorted, dir+"/")
	return i < len(k.sorted) && strings.HasPrefix(k.sorted[i], dir+"/")
}

// linksIn returns the names of hardlinked files in a directory, by their places in it.
func (v *View) linksIn(ctx context.Context, l *listing) (map[int]link, error) {
	if m := l.linked.Load(); m != nil {
		return *m, nil
	}
	found := map[int]link{}
	if v.snap.HardlinksCID().Defined() {
		k := v.links
		if err := k.load(ctx); err != nil {
			return nil, err
		}
		if k.below(l.path) {
			for i := range l.nodes {
				g, ok := k.group[tree.Join(l.path, l.at(i).name)]
				if !ok {
					continue
				}
				to, ok, err := v.leader(ctx, l, i, k.first[g])
				if err != nil {
					return nil, err
				}
				if ok {
					found[i] = link{to, k.count[g]}
				}
			}
		}
	}
	l.linked.Store(&found)
	return found, nil
}

// leader returns the number of the first name of the file at a place. The tree must allow that the two are one.
func (v *View) leader(ctx context.Context, l *listing, i int, first string) (uint64, bool, error) {
	p, err := v.lookup(ctx, first)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	a, b := p.l.at(p.i), l.at(i)
	return a.id, a.kind == b.kind && a.kind != meta.Dir && a.cid == b.cid, nil
}

// shown returns the entry that is shown at a place, under the number it is shown with.
func (v *View) shown(ctx context.Context, p place) (n node, nlink uint32, err error) {
	if p.l == nil {
		return v.root, v.fewestLinks(), nil
	}
	ls, err := v.linksIn(ctx, p.l)
	if err != nil {
		return n, 0, err
	}
	lk, linked := ls[p.i]
	if n, err = v.resolved(ctx, p.l, p.i); err != nil || !linked {
		return n, v.fewestLinks(), err
	}
	if lk.id != n.id {
		first, err := v.locate(ctx, lk.id)
		if err != nil {
			return n, 0, err
		}
		if n, err = v.resolved(ctx, first.l, first.i); err != nil {
			return n, 0, err
		}
	}
	return n, max(lk.nlink, v.fewestLinks()), nil
}

// fewestLinks is how many names a file is said to have that has one. overlayfs would know a lower file of one name
// by another inode after it was copied up and linked: permissions changed by one name were not enforced by the
// other, and the two could not be exchanged.
func (v *View) fewestLinks() uint32 {
	if v.o.Lower {
		return 2
	}
	return 1
}
