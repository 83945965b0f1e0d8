package apply

import (
	"context"
	"errors"
	"io/fs"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

func (w *Writer) count(t meta.Type, n uint64) { addType(&w.added, t, n) }

func addType(s *snapshot.Stats, t meta.Type, n uint64) {
	switch t {
	case meta.File:
		s.Files += n
	case meta.Dir:
		s.Dirs += n
	case meta.Symlink:
		s.Symlinks += n
	default:
		s.Others += n
	}
}

func plus(a, b snapshot.Stats) snapshot.Stats {
	return snapshot.Stats{
		Files: a.Files + b.Files, Dirs: a.Dirs + b.Dirs, Symlinks: a.Symlinks + b.Symlinks,
		Others: a.Others + b.Others, Bytes: a.Bytes + b.Bytes,
	}
}

// minus never goes below zero: a base may say what it likes of itself.
func minus(a, b snapshot.Stats) snapshot.Stats {
	less := func(x, y uint64) uint64 { return x - min(x, y) }
	return snapshot.Stats{
		Files: less(a.Files, b.Files), Dirs: less(a.Dirs, b.Dirs), Symlinks: less(a.Symlinks, b.Symlinks),
		Others: less(a.Others, b.Others), Bytes: less(a.Bytes, b.Bytes),
	}
}

// stats are those of the base, with what was added and without what is gone.
func (w *Writer) stats(ctx context.Context, l *links) (snapshot.Stats, error) {
	s := w.added
	for _, g := range w.groups {
		s.Bytes += g.size
	}
	if !w.base.HasSidecar() {
		return s, nil
	}
	var gone snapshot.Stats
	for path := range w.dropped {
		if _, ok := w.moved[path]; ok {
			continue
		}
		e, err := w.base.Lookup(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return s, err
		}
		if err := w.countGone(ctx, path, e, l, &gone, 0); err != nil {
			return s, err
		}
	}
	return minus(plus(w.base.Commit.Stats, s), gone), nil
}

// countGone counts an entry of the base and what is below, without what was moved out of it.
func (w *Writer) countGone(ctx context.Context, path string, e tree.Entry, l *links, gone *snapshot.Stats, depth int) error {
	addType(gone, e.Type, 1)
	if e.Type == meta.File {
		gone.Bytes += l.goneBytes(path, e.Size)
	}
	if !e.IsDir() || depth >= tree.DefaultMaxDepth {
		return nil
	}
	for child, err := range w.base.Entries(ctx, e) {
		if err != nil {
			return err
		}
		at := tree.Join(path, child.Name)
		if _, ok := w.moved[at]; ok {
			continue
		}
		if err := w.countGone(ctx, at, child, l, gone, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// goneBytes is how many bytes are gone with one name of a file: none while it has others.
func (l *links) goneBytes(path string, size uint64) uint64 {
	leader, ok := l.base[path]
	if !ok {
		return size
	}
	if !l.gone[leader] || l.leader[leader] {
		return 0
	}
	l.leader[leader] = true
	return size
}
