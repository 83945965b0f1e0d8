// Package apply writes a snapshot that is another one with changes, at a cost in proportion to the changes.
//
// Start with [New], which takes the base. Say what leaves its place in the base with [Writer.Drop] and
// [Writer.Move], make each changed directory, bottom-up, of kept entries ([Writer.Keep]), new ones
// ([Writer.Put]) and directories ([Writer.Dir]), and end with [Writer.Commit]. What was not said to change is
// taken over by its CIDs, unread.
//
// The result has the CIDs, of tree and sidecar, that an import of the changed directory gives.
package apply

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// Entry is an entry of a directory of the new snapshot. Child has no CID if only the sidecar holds it.
type Entry struct {
	Child unixfs.Child
	Row   meta.Row
}

// Writer writes one snapshot. It is for one goroutine at a time.
type Writer struct {
	b    snapshot.Blocks
	base *tree.Snapshot

	dropped map[string]bool   // paths in the base whose entry is not at its place any more
	moved   map[string]string // directories of the base that are elsewhere now, and where
	groups  map[string]*group // of the new snapshot's hardlinks, by the caller's name for them
	added   snapshot.Stats
	xattrs  bool                  // an entry that was put, or a directory that was made, has extended attributes
	whole   map[cid.Cid]completed // directories that had no rows
}

// group is a new file of several names.
type group struct {
	paths []string
	size  uint64
}

// New returns a writer of a snapshot made from base, to b, which also has the blocks of the base. A base
// without a sidecar gets one: each of its directories is then read once.
func New(b snapshot.Blocks, base *tree.Snapshot) *Writer {
	return &Writer{
		b: b, base: base,
		dropped: map[string]bool{}, moved: map[string]string{}, groups: map[string]*group{},
		whole: map[cid.Cid]completed{},
	}
}

// Drop says that the entry at a path of the base, with what is below, is no longer there: it was removed, or
// another one was put in its place, or it was moved.
func (w *Writer) Drop(path string) { w.dropped[path] = true }

// Move says that the directory at a path of the base is now at another path. What is below it moved along,
// unless dropped.
func (w *Writer) Move(from, to string) { w.moved[from] = to }

// Keep takes an entry of the base as it is, with all that is below it.
func (w *Writer) Keep(ctx context.Context, st tree.Stored) (Entry, error) {
	if st.HasRow {
		return Entry{Child: st.Child, Row: st.Row}, nil
	}
	return w.complete(ctx, st, 0)
}

// Put adds a new entry that is no directory, at a path, size bytes long if it is a file. All paths put with the
// same link, if it is not empty, are names of one file.
func (w *Writer) Put(ctx context.Context, path string, e Entry, size uint64, link string) (Entry, error) {
	w.count(e.Row.Type, 1)
	if link != "" {
		g := w.groups[link]
		if g == nil {
			g = new(group)
			w.groups[link] = g
		}
		g.paths, g.size = append(g.paths, path), size
	} else if e.Row.Type == meta.File {
		w.added.Bytes += size
	}
	w.xattrs = w.xattrs || hasXattrs(e.Row.Attr)
	if err := meta.SpillXattrs(ctx, w.b, &e.Row.Attr); err != nil {
		return Entry{}, fmt.Errorf("%q: %w", path, err)
	}
	return e, nil
}

// Dir writes a directory of the given entries, which are in byte order of their names. isNew says that the
// base has no such directory, at whatever path.
func (w *Writer) Dir(ctx context.Context, name string, attr meta.Attr, entries []Entry, isNew bool) (Entry, error) {
	if isNew || !w.base.HasSidecar() {
		w.added.Dirs++
	}
	w.xattrs = w.xattrs || hasXattrs(attr)
	e := Entry{Row: meta.Row{Name: name, Attr: attr}}
	children := make([]unixfs.Child, 0, len(entries))
	rows := make([]meta.Row, 0, len(entries))
	for _, e := range entries {
		if e.Child.CID.Defined() {
			children = append(children, e.Child)
		}
		rows = append(rows, e.Row)
	}
	var err error
	if e.Child, err = unixfs.WriteDir(ctx, w.b, children); err != nil {
		return Entry{}, fmt.Errorf("directory %q: %w", name, err)
	}
	e.Child.Name = name
	if e.Row.Entries, e.Row.Below, err = meta.WriteDir(ctx, w.b, rows); err != nil {
		return Entry{}, fmt.Errorf("directory %q: %w", name, err)
	}
	return e, meta.SpillXattrs(ctx, w.b, &e.Row.Attr)
}

// Commit writes the sidecar's root and returns a commit with Tree, Meta, Stats and NoXattrs set; root is what
// Dir made of the top directory.
func (w *Writer) Commit(ctx context.Context, root Entry) (*snapshot.Commit, error) {
	links, err := w.hardlinks(ctx)
	if err != nil {
		return nil, fmt.Errorf("hardlinks: %w", err)
	}
	stats, err := w.stats(ctx, links)
	if err != nil {
		return nil, fmt.Errorf("count what was removed: %w", err)
	}
	c := &snapshot.Commit{Tree: root.Child.CID, Stats: stats, NoXattrs: w.noXattrs()}
	if c.Meta, err = meta.WriteRoot(ctx, w.b, root.Row.Attr, links.table); err != nil {
		return nil, err
	}
	return c, nil
}

func hasXattrs(a meta.Attr) bool { return len(a.Xattrs) > 0 || a.XattrsAt.Defined() }

// noXattrs reports whether the new snapshot is known to have none. That the last one was removed goes unnoticed.
func (w *Writer) noXattrs() bool {
	return !w.xattrs && (!w.base.HasSidecar() || w.base.Commit.NoXattrs)
}
