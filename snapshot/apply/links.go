package apply

import (
	"context"
	"slices"
	"strings"

	"github.com/volary/volary/snapshot/meta"
)

// links are the hardlinks of the base, and of the new snapshot.
type links struct {
	base   map[string]string // path in the base → leader, the leader itself included
	gone   map[string]bool   // leaders of groups of which no name is left
	table  []meta.Hardlink   // of the new snapshot
	leader map[string]bool   // leaders whose size was seen, while counting
}

// hardlinks makes the table of the new snapshot: the groups of the base, by the names they have now, and the
// new ones.
func (w *Writer) hardlinks(ctx context.Context) (*links, error) {
	l := &links{base: map[string]string{}, gone: map[string]bool{}, leader: map[string]bool{}}
	groups := map[string][]string{} // by leader in the base: paths now
	add := func(path, leader string) {
		l.base[path] = leader
		if now, ok := w.fate(path); ok {
			groups[leader] = append(groups[leader], now)
		}
	}
	for h, err := range w.base.Hardlinks(ctx) {
		if err != nil {
			return nil, err
		}
		if _, ok := l.base[h.Leader]; !ok {
			add(h.Leader, h.Leader)
		}
		add(h.Path, h.Leader)
	}
	for _, leader := range l.base {
		l.gone[leader] = len(groups[leader]) == 0
	}
	for _, paths := range groups {
		l.table = appendGroup(l.table, paths)
	}
	for _, g := range w.groups {
		l.table = appendGroup(l.table, g.paths)
	}
	slices.SortFunc(l.table, func(a, b meta.Hardlink) int { return strings.Compare(a.Path, b.Path) })
	return l, nil
}

func appendGroup(table []meta.Hardlink, paths []string) []meta.Hardlink {
	slices.Sort(paths)
	for i := 1; i < len(paths); i++ {
		table = append(table, meta.Hardlink{Path: paths[i], Leader: paths[0]})
	}
	return table
}

// fate says where an entry of the base is now, and whether it is anywhere. The nearest directory that was
// dropped or moved decides.
func (w *Writer) fate(path string) (string, bool) {
	for end := len(path); end >= 0; end = strings.LastIndexByte(path[:end], '/') {
		at := path[:end]
		if to, ok := w.moved[at]; ok {
			return to + path[end:], true
		}
		if w.dropped[at] {
			return "", false
		}
	}
	return path, true
}
