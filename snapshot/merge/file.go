package merge

import (
	"cmp"
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/meta"
)

// file merges what is of one type, and no directory, on both sides: its content and its attributes each by itself.
func (m *merger) file(ctx context.Context, p place, taken names) ([]apply.Entry, error) {
	base, ours, theirs := p.at[baseSide], p.at[ourSide], p.at[theirSide]
	if base != nil && base.Type != ours.Type {
		base = nil
	}
	attr, clash := mergeAttr(attrOf(base), ours.Attr, theirs.Attr)
	data := ours
	switch {
	case sameData(ours, theirs), base != nil && sameData(base, theirs):
	case base != nil && sameData(base, ours):
		data = theirs
	default:
		clash = true
	}
	if clash {
		m.conflict(p)
		return m.take(ctx, p, taken)
	}
	attr.Major, attr.Minor = data.Major, data.Minor
	switch {
	case data == ours && equalAttr(attr, ours.Attr):
		return m.ours(ctx, p)
	case sameData(data, theirs) && equalAttr(attr, theirs.Attr):
		return m.theirs(ctx, p)
	}
	m.changed++
	m.drop(p)
	e := apply.Entry{Child: data.st.Child, Row: meta.Row{Name: p.name, Attr: attr}}
	if key := m.links.key(ourSide, p.path); key != "" {
		return m.putOne(ctx, p.path, e, data.Size, "both "+key)
	}
	return m.putOne(ctx, p.path, e, data.Size, "")
}

func (m *merger) putOne(ctx context.Context, path string, e apply.Entry, size uint64, key string) ([]apply.Entry, error) {
	e, err := m.w.Put(ctx, path, e, size, key)
	return []apply.Entry{e}, err
}

// linked merges a name of a file of which a side has other names than the base: as it was decided for all of them.
func (m *merger) linked(ctx context.Context, p place, c *component, taken names) ([]apply.Entry, error) {
	switch c.by {
	case ourSide:
		return m.ours(ctx, p)
	case theirSide:
		return m.theirs(ctx, p)
	}
	equal := sameStored(p.at[ourSide], p.at[theirSide])
	if !equal || m.links.moved(p.path) {
		m.conflict(p)
	}
	if equal && m.o.Take == Both {
		return m.ours(ctx, p)
	}
	return m.take(ctx, p, taken)
}

// mergeAttr gives the attributes of an entry, all but what a directory has in it. base is nil if there was none of its
// type. It clashes where both changed something, other than the time, and not to the same; that is as in ours then.
func mergeAttr(base *meta.Attr, ours, theirs meta.Attr) (attr meta.Attr, clash bool) {
	attr = ours
	pick := func(same func(a, b meta.Attr) bool, take func()) bool {
		switch {
		case same(ours, theirs), base != nil && same(*base, theirs):
			return true
		case base != nil && same(*base, ours):
			take()
			return true
		}
		return false
	}
	ok := pick(func(a, b meta.Attr) bool { return a.Mode == b.Mode }, func() { attr.Mode = theirs.Mode })
	ok = pick(func(a, b meta.Attr) bool { return a.UID == b.UID && a.GID == b.GID }, func() { attr.UID, attr.GID = theirs.UID, theirs.GID }) && ok
	ok = pick(sameXattrs, func() { attr.Xattrs, attr.XattrsAt = theirs.Xattrs, theirs.XattrsAt }) && ok
	if !pick(func(a, b meta.Attr) bool { return a.Sparse == b.Sparse }, func() { attr.Sparse = theirs.Sparse }) {
		attr.Sparse = true // what is kept as holes reads the same
	}
	later := cmp.Or(cmp.Compare(theirs.Sec, ours.Sec), cmp.Compare(theirs.Nsec, ours.Nsec)) > 0
	if !pick(sameTime, func() { attr.Sec, attr.Nsec = theirs.Sec, theirs.Nsec }) && later {
		attr.Sec, attr.Nsec = theirs.Sec, theirs.Nsec
	}
	return attr, !ok
}

func attrOf(n *node) *meta.Attr {
	if n == nil {
		return nil
	}
	return &n.Attr
}

func isDir(n *node) bool { return n != nil && n.IsDir() }

// sameStored reports whether two sides have the same at a place, with all that is below it.
func sameStored(a, b *node) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := a.st, b.st
	return x.Child.CID == y.Child.CID && x.HasRow == y.HasRow && equalAttr(x.Row.Attr, y.Row.Attr)
}

// sameData reports whether two entries of one type, no directories, have the same content.
func sameData(a, b *node) bool {
	return a.st.Child.CID == b.st.Child.CID && a.Major == b.Major && a.Minor == b.Minor
}

// equalAttr compares all attributes.
func equalAttr(a, b meta.Attr) bool {
	return sameAttr(a, b) && sameTime(a, b) && a.Major == b.Major && a.Minor == b.Minor && a.Below == b.Below && a.Entries == b.Entries
}

// sameAttr compares the attributes of an entry but for its time, which changes with what a directory has in it.
func sameAttr(a, b meta.Attr) bool {
	return a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Sparse == b.Sparse && sameXattrs(a, b)
}

func sameTime(a, b meta.Attr) bool { return a.Sec == b.Sec && a.Nsec == b.Nsec }

func sameXattrs(a, b meta.Attr) bool {
	if a.XattrsAt != b.XattrsAt || len(a.Xattrs) != len(b.Xattrs) {
		return false
	}
	for i, x := range a.Xattrs {
		if y := b.Xattrs[i]; x.Name != y.Name || string(x.Value) != string(y.Value) {
			return false
		}
	}
	return true
}

// kindOf says what became of an entry.
func kindOf(before, after *node) diff.Kind {
	switch {
	case before == nil && after == nil:
		return ""
	case before == nil:
		return diff.Added
	case after == nil:
		return diff.Removed
	case before.Type != after.Type:
		return diff.Type
	case before.CID != after.CID || before.Major != after.Major || before.Minor != after.Minor:
		return diff.Content
	case !equalAttr(before.Attr, after.Attr):
		return diff.Metadata
	}
	return ""
}

// beside returns a name for what is put beside an entry, and takes it.
func (n names) beside(name, suffix string) string {
	for i := 1; ; i++ {
		end := suffix
		if i > 1 {
			end = fmt.Sprintf("%s-%d", suffix, i)
		}
		next := cut(name, meta.MaxName-len(end)) + end
		if !n[next] {
			n[next] = true
			return next
		}
	}
}

// cut is the beginning of a name, not in the middle of a character.
func cut(name string, length int) string {
	if len(name) <= length {
		return name
	}
	for length > 0 && !utf8.RuneStart(name[length]) {
		length--
	}
	return name[:length]
}
