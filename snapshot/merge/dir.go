package merge

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// node is an entry of one side.
type node struct {
	tree.Entry
	st tree.Stored // zero for the root
}

// place is a path and what is there on each side; nil is nothing.
type place struct {
	name, path string
	at         [3]*node
	depth      int
}

// names are those that a directory has on any side, and those put beside them.
type names map[string]bool

// dir merges a directory that is one on our side or on theirs, and nothing else on the other. It is false if nothing of
// it remains.
func (m *merger) dir(ctx context.Context, p place) (apply.Entry, bool, error) {
	if b := p.at[baseSide]; b != nil && !b.IsDir() {
		p.at[baseSide] = nil
	}
	children, err := m.children(ctx, p)
	if err != nil {
		return apply.Entry{}, false, err
	}
	taken := names{}
	for _, c := range children {
		taken[c.name] = true
	}
	var entries []apply.Entry
	for _, c := range children {
		es, err := m.entry(ctx, c, taken)
		if err != nil {
			return apply.Entry{}, false, err
		}
		entries = append(entries, es...)
	}
	slices.SortFunc(entries, func(a, b apply.Entry) int { return strings.Compare(a.Row.Name, b.Row.Name) })
	attr, stays := m.dirAttr(p, len(entries) > 0)
	if !stays {
		m.drop(p)
		return apply.Entry{}, false, nil
	}
	e, err := m.w.Dir(ctx, p.name, attr, entries, p.at[ourSide] == nil)
	return e, true, err
}

// dirAttr says what attributes a directory has, and whether it stays.
func (m *merger) dirAttr(p place, hasEntries bool) (meta.Attr, bool) {
	base, ours, theirs := p.at[baseSide], p.at[ourSide], p.at[theirSide]
	if ours != nil && theirs != nil {
		attr, clash := mergeAttr(attrOf(base), ours.Attr, theirs.Attr)
		if clash {
			m.conflict(p)
			if m.o.Take == Theirs {
				attr, _ = mergeAttr(attrOf(base), theirs.Attr, ours.Attr)
			}
		}
		if !sameAttr(attr, ours.Attr) {
			m.changed++
		}
		return attr, true
	}
	left, isOurs := ours, true // by the side that still has it
	if left == nil {
		left, isOurs = theirs, false
	}
	switch {
	case hasEntries || base == nil:
		return left.Attr, true
	case sameAttr(base.Attr, left.Attr):
		return meta.Attr{}, false
	}
	m.conflict(p)
	return left.Attr, m.o.Take == Both || (m.o.Take == Theirs) != isOurs
}

// children pairs the entries of a directory by their names.
func (m *merger) children(ctx context.Context, p place) ([]place, error) {
	byName := map[string]*place{}
	for i, n := range p.at {
		if n == nil || !n.IsDir() {
			continue
		}
		for st, err := range m.sides[i].Stored(ctx, n.Entry) {
			if err != nil {
				return nil, fmt.Errorf("%q: %w", p.path, err)
			}
			c := byName[st.Name]
			if c == nil {
				if err := m.budget.Entry(p.depth + 1); err != nil {
					return nil, fmt.Errorf("%q: %w", p.path, err)
				}
				c = &place{name: st.Name, path: tree.Join(p.path, st.Name), depth: p.depth + 1}
				byName[st.Name] = c
			}
			c.at[i] = &node{st: st}
		}
	}
	all := make([]place, 0, len(byName))
	for c := range sorted(byName) {
		all = append(all, *c)
	}
	return all, ctx.Err()
}

func sorted(byName map[string]*place) iter.Seq[*place] {
	return func(yield func(*place) bool) {
		keys := make([]string, 0, len(byName))
		for name := range byName {
			keys = append(keys, name)
		}
		slices.Sort(keys)
		for _, name := range keys {
			if !yield(byName[name]) {
				return
			}
		}
	}
}

// entry merges what is at one place. Two entries are both sides, the second under a name of its own.
func (m *merger) entry(ctx context.Context, p place, taken names) ([]apply.Entry, error) {
	base, ours, theirs := p.at[baseSide], p.at[ourSide], p.at[theirSide]
	apart := m.links.apart[p.path]
	if !apart && sameStored(ours, theirs) {
		return m.ours(ctx, p)
	}
	for i, n := range p.at {
		if n == nil {
			continue
		}
		var err error
		if n.Entry, err = m.sides[i].Resolve(ctx, n.st); err != nil {
			return nil, fmt.Errorf("%q: %w", p.path, err)
		}
	}
	ourDir, theirDir := isDir(ours), isDir(theirs)
	if (ourDir || ours == nil) && (theirDir || theirs == nil) && (ourDir || theirDir) {
		return m.both(ctx, p, apart)
	}
	if c := m.links.component(p.path); c != nil && !ourDir && !theirDir {
		return m.linked(ctx, p, c, taken)
	}
	switch {
	case sameStored(base, theirs):
		return m.ours(ctx, p)
	case sameStored(base, ours):
		return m.theirs(ctx, p)
	case ours != nil && theirs != nil && ours.Type == theirs.Type:
		return m.file(ctx, p, taken)
	case ours == nil && theirs == nil:
		return nil, nil
	}
	m.conflict(p)
	return m.take(ctx, p, taken)
}

// both merges directories, unless only one side changed something.
func (m *merger) both(ctx context.Context, p place, apart bool) ([]apply.Entry, error) {
	base, ours, theirs := p.at[baseSide], p.at[ourSide], p.at[theirSide]
	if !apart {
		switch {
		case sameStored(base, theirs):
			return m.ours(ctx, p)
		case sameStored(base, ours) && (ours == nil || theirs == nil):
			return m.theirs(ctx, p)
		}
	}
	e, stays, err := m.dir(ctx, p)
	if err != nil || !stays {
		return nil, err
	}
	return []apply.Entry{e}, nil
}

// ours leaves what we have as it is.
func (m *merger) ours(ctx context.Context, p place) ([]apply.Entry, error) {
	if p.at[ourSide] == nil {
		return nil, nil
	}
	e, err := m.w.Keep(ctx, p.at[ourSide].st)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", p.path, err)
	}
	return []apply.Entry{e}, nil
}

// theirs puts what they have in the place of what we have.
func (m *merger) theirs(ctx context.Context, p place) ([]apply.Entry, error) {
	m.changed++
	m.drop(p)
	if p.at[theirSide] == nil {
		return nil, nil
	}
	e, err := m.put(ctx, p.path, p.path, p.name, *p.at[theirSide], p.depth)
	return []apply.Entry{e}, err
}

// take does with a conflict as the options say.
func (m *merger) take(ctx context.Context, p place, taken names) ([]apply.Entry, error) {
	ours, theirs := p.at[ourSide], p.at[theirSide]
	if m.o.Take == Theirs || m.o.Take == Both && ours == nil {
		return m.theirs(ctx, p)
	}
	es, err := m.ours(ctx, p)
	if err != nil || m.o.Take != Both || theirs == nil {
		return es, err
	}
	m.changed++
	name := taken.beside(p.name, m.o.Suffix)
	parent := strings.TrimSuffix(p.path[:len(p.path)-len(p.name)], "/")
	e, err := m.put(ctx, tree.Join(parent, name), p.path, name, *theirs, p.depth)
	return append(es, e), err
}

// put adds their entry, with all that is below it, at a path.
func (m *merger) put(ctx context.Context, to, from, name string, n node, depth int) (apply.Entry, error) {
	if !n.IsDir() {
		e := apply.Entry{Child: n.st.Child, Row: meta.Row{Name: name, Attr: n.Attr}}
		e.Child.Name = name
		return m.w.Put(ctx, to, e, n.Size, m.links.key(theirSide, from))
	}
	var entries []apply.Entry
	for st, err := range m.sides[theirSide].Stored(ctx, n.Entry) {
		if err == nil {
			err = m.budget.Entry(depth + 1)
		}
		if err != nil {
			return apply.Entry{}, fmt.Errorf("%q: %w", from, err)
		}
		below, err := m.sides[theirSide].Resolve(ctx, st)
		if err != nil {
			return apply.Entry{}, fmt.Errorf("%q: %w", tree.Join(from, st.Name), err)
		}
		e, err := m.put(ctx, tree.Join(to, st.Name), tree.Join(from, st.Name), st.Name, node{Entry: below, st: st}, depth+1)
		if err != nil {
			return apply.Entry{}, err
		}
		entries = append(entries, e)
	}
	return m.w.Dir(ctx, name, n.Attr, entries, true)
}
