package tree

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// Lookup returns the entry at a slash path relative to the root; the empty path and "/" are the root. Where
// there is none the error is an [fs.PathError] that wraps [fs.ErrNotExist]. Symlinks are not followed.
func (s *Snapshot) Lookup(ctx context.Context, path string) (Entry, error) {
	clean, err := cleanPath(path)
	if err != nil {
		return Entry{}, err
	}
	e := s.root
	for name := range strings.SplitSeq(clean, "/") {
		if clean == "" {
			break
		}
		found := false
		if e.IsDir() {
			if e, found, err = s.find(ctx, e, name); err != nil {
				return Entry{}, fmt.Errorf("look up %q: %w", path, err)
			}
		}
		if !found {
			return Entry{}, &fs.PathError{Op: "look up", Path: path, Err: fs.ErrNotExist}
		}
	}
	return e, nil
}

// cleanPath drops empty components. A path with a name that no directory can hold does not exist.
func cleanPath(path string) (string, error) {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		if meta.CheckName(name) != nil {
			return "", &fs.PathError{Op: "look up", Path: path, Err: fs.ErrNotExist}
		}
		names = append(names, name)
	}
	return strings.Join(names, "/"), nil
}

// find looks up one name, without reading the rest of a large directory.
func (s *Snapshot) find(ctx context.Context, dir Entry, name string) (Entry, bool, error) {
	row, described, err := meta.Find(ctx, s.nodes, dir.Entries, name)
	if err != nil {
		return Entry{}, false, err
	}
	child, found, err := unixfs.Find(ctx, s.nodes, dir.CID, name)
	if err != nil || !found && (!described || row.Type.InTree()) {
		return Entry{}, false, err
	}
	e, err := s.Resolve(ctx, Stored{Name: name, Child: child, Row: row, HasRow: described})
	return e, true, err
}

// Entries yields the entries of a directory in byte order of their names. The directory is listed once.
func (s *Snapshot) Entries(ctx context.Context, dir Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := s.entries(ctx, dir, func(e Entry) bool { return yield(e, nil) }); err != nil {
			yield(Entry{}, fmt.Errorf("read directory %s: %w", dir.CID, err))
		}
	}
}

// entries calls emit for each entry until it returns false.
func (s *Snapshot) entries(ctx context.Context, dir Entry, emit func(Entry) bool) error {
	var next []Stored // looked at together, so that their nodes can be fetched together
	more := true
	resolve := func() error {
		batch := next
		next = next[:0]
		s.nodes.fetchBelow(ctx, batch)
		for _, st := range batch {
			e, err := s.Resolve(ctx, st)
			if err != nil {
				return err
			}
			if more = emit(e); !more {
				return nil
			}
		}
		return nil
	}
	err := s.stored(ctx, dir, func(st Stored) (bool, error) {
		if next = append(next, st); len(next) < s.nodes.window() {
			return true, nil
		}
		err := resolve()
		return more, err
	})
	// What comes before an error is there.
	if restErr := resolve(); restErr != nil || !more {
		return restErr
	}
	return err
}

// describe gives an entry of the tree the attributes of its row. A row of another type than the tree's
// describes something that is not there.
func (e *Entry) describe(a meta.Attr) {
	if a.Type == e.Type {
		e.Attr, e.HasMeta = a, true
	}
}

// fromChild is an entry of the tree with default attributes. A raw block is a file whatever is in it, so it
// is not read.
func (s *Snapshot) fromChild(ctx context.Context, c unixfs.Child) (Entry, error) {
	if c.CID.Prefix().Codec != cid.Raw {
		e, err := s.stat(ctx, c.Name, c.CID)
		e.Tsize = c.Tsize
		return e, err
	}
	if c.Tsize > snapshot.MaxBlockSize {
		return Entry{}, fmt.Errorf("file %q of one block says it has %d bytes: %w", c.Name, c.Tsize, snapshot.ErrFormat)
	}
	return Entry{Name: c.Name, Attr: meta.Attr{Type: meta.File, Mode: DefaultFileMode}, CID: c.CID, Size: c.Tsize, Tsize: c.Tsize}, nil
}

// stat reads the root block of an entry of the tree.
func (s *Snapshot) stat(ctx context.Context, name string, c cid.Cid) (Entry, error) {
	if codec := c.Prefix().Codec; codec != cid.Raw && codec != cid.DagProtobuf {
		return Entry{}, fmt.Errorf("entry %q is %s, of codec %#x: %w", name, c, codec, snapshot.ErrFormat)
	}
	blk, err := s.nodes.Get(ctx, c)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %q: %w", name, err)
	}
	node, err := unixfs.Stat(blk)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %q: %w", name, err)
	}
	e := Entry{Name: name, CID: c, Size: node.Size, Target: node.Target}
	switch node.Kind {
	case unixfs.Dir:
		e.Attr = meta.Attr{Type: meta.Dir, Mode: DefaultDirMode}
	case unixfs.Symlink:
		e.Attr = meta.Attr{Type: meta.Symlink, Mode: DefaultSymlinkMode}
	default:
		e.Attr = meta.Attr{Type: meta.File, Mode: DefaultFileMode}
	}
	return e, nil
}
