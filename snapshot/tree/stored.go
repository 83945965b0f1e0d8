package tree

import (
	"context"
	"fmt"
	"iter"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// Stored is an entry of a directory as the tree and the sidecar store it: what it takes to store it in another
// directory as well, without reading its blocks. That tree and sidecar agree on its type only
// [Snapshot.Resolve] tells.
type Stored struct {
	Name   string
	Child  unixfs.Child // without a CID if only the sidecar has the entry
	Row    meta.Row
	HasRow bool
	First  uint64 // with a row: its number among what is below the directory, counted in preorder from 0
}

// Stored yields the entries of a directory in byte order of their names. The directory is listed once, and no
// other block is read.
func (s *Snapshot) Stored(ctx context.Context, dir Entry) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		if err := s.stored(ctx, dir, func(e Stored) (bool, error) { return yield(e, nil), nil }); err != nil {
			yield(Stored{}, fmt.Errorf("read directory %s: %w", dir.CID, err))
		}
	}
}

// Resolve returns the entry that is stored.
func (s *Snapshot) Resolve(ctx context.Context, st Stored) (Entry, error) {
	if !st.Child.CID.Defined() {
		return Entry{Name: st.Name, Attr: st.Row.Attr, HasMeta: true}, nil
	}
	e, err := s.fromChild(ctx, st.Child)
	if err == nil && st.HasRow {
		e.describe(st.Row.Attr)
	}
	return e, err
}

// stored calls emit for each entry until it returns false or an error.
func (s *Snapshot) stored(ctx context.Context, dir Entry, emit func(Stored) (bool, error)) error {
	if !dir.IsDir() {
		return fmt.Errorf("%s is not a directory: %w", dir.Type, snapshot.ErrFormat)
	}
	s.nodes.fetch(ctx, dir.CID, dir.Entries)
	children, err := unixfs.List(ctx, s.nodes, dir.CID)
	if err != nil {
		return err
	}
	var next uint64
	for row, err := range meta.Rows(ctx, s.nodes, dir.Entries) {
		if err != nil {
			return err
		}
		first := next
		next += 1 + row.Below
		for len(children) > 0 && children[0].Name < row.Name {
			if more, err := emit(Stored{Name: children[0].Name, Child: children[0]}); err != nil || !more {
				return err
			}
			children = children[1:]
		}
		st := Stored{Name: row.Name, Row: row, HasRow: true, First: first}
		switch {
		case len(children) > 0 && children[0].Name == row.Name:
			st.Child, children = children[0], children[1:]
		case row.Type.InTree():
			continue // describes something that is not there
		}
		if more, err := emit(st); err != nil || !more {
			return err
		}
	}
	for _, c := range children {
		if more, err := emit(Stored{Name: c.Name, Child: c}); err != nil || !more {
			return err
		}
	}
	return nil
}
