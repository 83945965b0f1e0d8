package importer

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

type inode struct{ dev, ino uint64 }

// linkTable knows the inodes of several names. The name that claims one first is read; the others become what
// that one was, so that all names of an inode are of one moment.
type linkTable struct {
	mu     sync.Mutex
	groups map[inode]*linkGroup
}

type linkGroup struct {
	settled bool
	entry   entry // once settled
	waiting []ref
	paths   []string
}

func newLinkTable() *linkTable { return &linkTable{groups: map[inode]*linkGroup{}} }

// claim reports whether x is the first name of its inode. If not, x is settled now or when the first one is.
func (w *worker) claim(x ref, st *unix.Stat_t) (bool, error) {
	t, e := w.links, x.entry()
	key := inode{st.Dev, st.Ino}
	e.more().inode = key
	t.mu.Lock()
	g := t.groups[key]
	if g == nil {
		t.groups[key] = new(linkGroup)
		t.mu.Unlock()
		return true, nil
	}
	if !g.settled {
		g.waiting = append(g.waiting, x)
		t.mu.Unlock()
		return false, nil
	}
	e.become(&g.entry)
	t.mu.Unlock()
	return false, w.settled(x)
}

// settleLink notes a name of an inode, and settles the others that waited for it. If it vanished, the others
// are looked at afresh.
func (w *worker) settleLink(x ref) error {
	t, e := w.links, x.entry()
	path := x.seg.dir.pathOf(e.name)
	t.mu.Lock()
	g := t.groups[e.extra.inode]
	waiting := g.waiting
	g.waiting = nil
	if e.flags&gone != 0 {
		if !g.settled {
			delete(t.groups, e.extra.inode)
		}
	} else {
		g.paths = append(g.paths, path)
		if !g.settled {
			g.settled, g.entry = true, *e
		}
	}
	t.mu.Unlock()
	for _, other := range waiting {
		if e.flags&gone != 0 {
			if err := w.look(other.seg, other.index); err != nil {
				return err
			}
			continue
		}
		other.entry().become(e)
		if err := w.settled(other); err != nil {
			return err
		}
	}
	return nil
}

// unlink takes an entry whose name was given to another inode out of the group it claimed.
func (w *worker) unlink(x ref) error {
	e := x.entry()
	was := e.flags
	e.flags |= gone
	err := w.settleLink(x)
	e.flags = was &^ linked
	return err
}

// hardlinks returns the table for the sidecar, and the bytes of the files in it, each inode once.
func (t *linkTable) hardlinks() (links []meta.Hardlink, bytes uint64) {
	for _, g := range t.groups {
		if g.entry.typ == meta.File {
			bytes += g.entry.size
		}
		slices.Sort(g.paths)
		for i := 1; i < len(g.paths); i++ {
			links = append(links, meta.Hardlink{Path: g.paths[i], Leader: g.paths[0]})
		}
	}
	slices.SortFunc(links, func(a, b meta.Hardlink) int { return strings.Compare(a.Path, b.Path) })
	return links, bytes
}
