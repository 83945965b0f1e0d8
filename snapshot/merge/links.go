package merge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/volary/volary/snapshot/tree"
)

// links are the hardlinks of all sides.
type links struct {
	leaders [3]map[string]string  // path → leader, the leader itself included
	parted  map[string]*component // by path: those of which the sides have not the same names
	apart   map[string]bool       // paths that are not simply as we have them because of that, and all directories above
}

// component are the paths that are names of one file on some side, and all that are connected so.
type component struct {
	paths []string
	by    int // side whose names and contents all of them have; baseSide: it is a conflict
}

func (l *links) component(path string) *component { return l.parted[path] }

// moved reports whether a path is the name of another file in ours than in theirs.
func (l *links) moved(path string) bool {
	return l.leaders[ourSide][path] != l.leaders[theirSide][path]
}

// key names the file that a path is one name of on a side; it is empty if it is the only one.
func (l *links) key(side int, path string) string {
	leader, ok := l.leaders[side][path]
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %s", side, leader)
}

func (m *merger) readLinks(ctx context.Context) error {
	m.links = links{parted: map[string]*component{}, apart: map[string]bool{}}
	for i, s := range m.sides {
		leaders := map[string]string{}
		m.links.leaders[i] = leaders
		if s == nil {
			continue
		}
		for h, err := range s.Hardlinks(ctx) {
			if err != nil {
				return fmt.Errorf("hardlinks: %w", err)
			}
			leaders[h.Path], leaders[h.Leader] = h.Leader, h.Leader
		}
	}
	for _, c := range m.links.components() {
		if err := m.decide(ctx, c); err != nil {
			return err
		}
		for _, path := range c.paths {
			m.links.parted[path] = c
			if c.by != ourSide {
				m.links.setApart(path)
			}
		}
	}
	return nil
}

func (l *links) setApart(path string) {
	l.apart[path] = true
	for dir := range above(path) {
		if l.apart[dir] {
			return
		}
		l.apart[dir] = true
	}
}

// components are those of which the sides do not have the same names.
func (l *links) components() []*component {
	joined := map[string]string{} // path → one of the same component; a root is its own
	var find func(path string) string
	find = func(path string) string {
		next, ok := joined[path]
		if !ok || next == path {
			joined[path] = path
			return path
		}
		root := find(next)
		joined[path] = root
		return root
	}
	parted := map[string]bool{}
	for _, leaders := range l.leaders {
		for path, leader := range leaders {
			joined[find(path)] = find(leader)
		}
	}
	for path := range joined {
		if l.leaders[ourSide][path] != l.leaders[theirSide][path] || l.leaders[ourSide][path] != l.leaders[baseSide][path] {
			parted[find(path)] = true
		}
	}
	byRoot := map[string]*component{}
	var all []*component
	for path := range joined {
		root := find(path)
		if !parted[root] {
			continue
		}
		c := byRoot[root]
		if c == nil {
			c = &component{}
			byRoot[root] = c
			all = append(all, c)
		}
		c.paths = append(c.paths, path)
	}
	return all
}

// decide finds out whether only one side changed something about the names and contents of a component.
func (m *merger) decide(ctx context.Context, c *component) error {
	baseOurs, baseTheirs, alike := true, true, true
	for _, path := range c.paths {
		var at [3]*tree.Entry
		for i, s := range m.sides {
			if s == nil {
				continue
			}
			e, err := s.Lookup(ctx, path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			at[i] = &e
		}
		equal := func(a, b int) bool {
			return m.links.leaders[a][path] == m.links.leaders[b][path] && sameEntry(at[a], at[b])
		}
		baseOurs = baseOurs && equal(baseSide, ourSide)
		baseTheirs = baseTheirs && equal(baseSide, theirSide)
		alike = alike && equal(ourSide, theirSide)
	}
	switch {
	case alike, baseTheirs:
		c.by = ourSide
	case baseOurs:
		c.by = theirSide
	default:
		c.by = baseSide
	}
	return nil
}

func sameEntry(a, b *tree.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.CID == b.CID && equalAttr(a.Attr, b.Attr)
}
