package apply

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// completed is the sidecar of a directory that had none.
type completed struct {
	rows  cid.Cid
	below uint64
	stats snapshot.Stats // of what is below
}

// complete makes the row of an entry that may lack one, and those of all that is below it.
func (w *Writer) complete(ctx context.Context, st tree.Stored, depth int) (Entry, error) {
	e, err := w.base.Resolve(ctx, st)
	if err != nil {
		return Entry{}, err
	}
	row := meta.Row{Name: e.Name, Attr: e.Attr}
	switch {
	case e.IsDir():
		c, err := w.completeDir(ctx, e, depth+1)
		if err != nil {
			return Entry{}, fmt.Errorf("%q: %w", e.Name, err)
		}
		row.Entries, row.Below = c.rows, c.below
		w.keep(c.stats)
		w.keep(snapshot.Stats{Dirs: 1})
	case e.Type == meta.File:
		w.keep(snapshot.Stats{Files: 1, Bytes: e.Size})
	case e.Type == meta.Symlink:
		w.keep(snapshot.Stats{Symlinks: 1})
	default:
		w.keep(snapshot.Stats{Others: 1})
	}
	return Entry{Child: st.Child, Row: row}, nil
}

// keep counts what a base brings that has no sidecar and so no statistics of its own.
func (w *Writer) keep(s snapshot.Stats) {
	if !w.base.HasSidecar() {
		w.added = plus(w.added, s)
	}
}

func (w *Writer) completeDir(ctx context.Context, dir tree.Entry, depth int) (completed, error) {
	if depth > tree.DefaultMaxDepth {
		return completed{}, fmt.Errorf("deeper than %d directories: %w", tree.DefaultMaxDepth, snapshot.ErrFormat)
	}
	if c, ok := w.whole[dir.CID]; ok && !dir.Entries.Defined() {
		return c, nil
	}
	before := w.added
	w.added = snapshot.Stats{}
	var c completed
	var rows []meta.Row
	for st, err := range w.base.Stored(ctx, dir) {
		if err != nil {
			return c, err
		}
		e, err := w.complete(ctx, st, depth)
		if err != nil {
			return c, err
		}
		rows = append(rows, e.Row)
	}
	var err error
	if c.rows, c.below, err = meta.WriteDir(ctx, w.b, rows); err != nil {
		return c, err
	}
	c.stats, w.added = w.added, before
	if c.below > tree.DefaultMaxEntries {
		return c, fmt.Errorf("more than %d entries: %w", uint64(tree.DefaultMaxEntries), snapshot.ErrFormat)
	}
	if !dir.Entries.Defined() {
		w.whole[dir.CID] = c
	}
	return c, nil
}

// Complete is a commit of the base with nothing changed: its Tree, and a Meta with a row for every entry.
func Complete(ctx context.Context, b snapshot.Blocks, base *tree.Snapshot) (*snapshot.Commit, error) {
	w := New(b, base)
	var entries []Entry
	for st, err := range base.Stored(ctx, base.Root()) {
		if err != nil {
			return nil, err
		}
		e, err := w.Keep(ctx, st)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	attr := base.Root().Attr
	xs, err := base.Xattrs(ctx, base.Root())
	if err != nil {
		return nil, err
	}
	attr.Xattrs, attr.XattrsAt = xs, cid.Undef
	root, err := w.Dir(ctx, "", attr, entries, false)
	if err != nil {
		return nil, err
	}
	return w.Commit(ctx, root)
}
