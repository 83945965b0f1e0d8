package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// linkNames names the files of several names in a snapshot of layers: by the path of the leader.
type linkNames map[string]string

// of is the name of the file that the path is a name of; empty if it has no other.
func (l linkNames) of(raw string) string { return l[raw] }

// indexed are files of the base with several names, one of which was copied up. With index=on overlayfs shows
// the copy at every name that nothing was put in the place of, and keeps it in the work directory's index,
// even when the name it was copied by is gone.
type indexed struct {
	by    map[string]*indexEntry // path in the base → copy
	paths []string               // keys of by, in byte order
}

type indexEntry struct {
	entry tree.Entry
	attr  meta.Attr
	link  string
}

func (x *indexed) at(from string) (*indexEntry, bool) {
	e, ok := x.by[from]
	return e, ok
}

// below reports whether a directory of the base has such files.
func (x *indexed) below(from string) bool {
	prefix := from + "/"
	i, _ := slices.BinarySearch(x.paths, prefix)
	return i < len(x.paths) && strings.HasPrefix(x.paths[i], prefix)
}

// readLinks learns which names of layers are one file, and which files of the base are in the index.
func (m *merger) readLinks(ctx context.Context) error {
	m.links = linkNames{}
	for h, err := range m.layers.Hardlinks(ctx) {
		if err != nil {
			return err
		}
		m.links[h.Path], m.links[h.Leader] = h.Leader, h.Leader
	}
	index, err := m.layers.Lookup(ctx, indexDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var copies []tree.Entry
	for e, err := range m.layers.Entries(ctx, index) {
		if err != nil {
			return err
		}
		if !isWhiteout(e) && !e.IsDir() {
			copies = append(copies, e)
		}
	}
	if len(copies) == 0 {
		return nil
	}
	return m.readIndex(ctx, copies)
}

func (m *merger) readIndex(ctx context.Context, copies []tree.Entry) error {
	groups := map[string][]string{}
	for h, err := range m.base.Hardlinks(ctx) {
		if err != nil {
			return err
		}
		groups[h.Leader] = append(groups[h.Leader], h.Path)
	}
	m.indexed.by = map[string]*indexEntry{}
	for _, e := range copies {
		leader, err := m.origin(ctx, e.Name)
		if err != nil {
			return fmt.Errorf("index entry %s: %w", e.Name, err)
		}
		x := &indexEntry{entry: e, link: m.links.of(tree.Join(indexDir, e.Name))}
		if x.link == "" {
			x.link = tree.Join(indexDir, e.Name)
		}
		var k marks
		if k, x.attr, err = split(ctx, m.layers, e); err != nil {
			return err
		}
		if k.metacopy {
			data, err := m.base.Lookup(ctx, leader)
			if err != nil {
				return m.mismatch(e.Name, leader, err)
			}
			if err := copyData(&x.entry, &x.attr, data); err != nil {
				return err
			}
		}
		for _, name := range append(groups[leader], leader) {
			m.indexed.by[name] = x
			m.indexed.paths = append(m.indexed.paths, name)
		}
	}
	slices.Sort(m.indexed.paths)
	return nil
}

// putIndexed adds a name of the base whose file was copied up by another name.
func (m *merger) putIndexed(ctx context.Context, to, name string, x *indexEntry) (apply.Entry, error) {
	e := x.entry
	e.Name = name
	return m.put(ctx, to, e, x.attr, x.link)
}

func copyData(u *tree.Entry, attr *meta.Attr, data tree.Entry) error {
	if data.Type != meta.File {
		return fmt.Errorf("data of %q is a %s: %w", u.Name, data.Type, ErrMismatch)
	}
	u.CID, u.Size, u.Tsize = data.CID, data.Size, data.Tsize
	attr.Sparse = data.Sparse
	return nil
}

func child(e tree.Entry) unixfs.Child {
	return unixfs.Child{Name: e.Name, CID: e.CID, Tsize: e.Tsize}
}
