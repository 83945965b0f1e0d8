package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
)

// Numbered reports whether the snapshot's entries have numbers: if it has a sidecar. The root has number 0, the
// others are counted in preorder by the rows of the sidecar. The names of a hardlinked file have numbers of
// their own.
func (s *Snapshot) Numbered() bool { return s.HasSidecar() }

// Count is one more than the largest number.
func (s *Snapshot) Count() uint64 { return 1 + s.root.Below }

// At returns the entry of a number. Where tree and sidecar disagree there may be none; the error is then an
// [fs.PathError] that wraps [fs.ErrNotExist].
func (s *Snapshot) At(ctx context.Context, n uint64) (Located, error) {
	at := Located{Entry: s.root}
	if n >= s.Count() || !s.Numbered() {
		return at, &fs.PathError{Op: "look up", Path: fmt.Sprint("entry ", n), Err: fs.ErrNotExist}
	}
	for depth := 0; n > 0; depth++ {
		if depth > DefaultMaxDepth {
			return at, fmt.Errorf("entry %d: deeper than %d directories: %w", n, DefaultMaxDepth, snapshot.ErrFormat)
		}
		row, first, err := meta.At(ctx, s.blocks, at.Entries, n-1)
		if err != nil {
			return at, fmt.Errorf("look up entry %d of %q: %w", n, at.Path, err)
		}
		next, found, err := s.find(ctx, at.Entry, row.Name)
		if err == nil && !found {
			err = fs.ErrNotExist
		}
		if err != nil {
			return at, &fs.PathError{Op: "look up", Path: Join(at.Path, row.Name), Err: err}
		}
		at = Located{Path: Join(at.Path, row.Name), Entry: next}
		n -= 1 + first
	}
	return at, nil
}

// Number returns the number of the entry at a path, and whether it has one.
func (s *Snapshot) Number(ctx context.Context, path string) (uint64, bool, error) {
	clean, err := cleanPath(path)
	if err != nil || !s.Numbered() {
		return 0, false, ignoreNotExist(err)
	}
	var n uint64
	dir := s.root.Attr
	for name := range strings.SplitSeq(clean, "/") {
		if clean == "" {
			break
		}
		number, row, found, err := meta.NumberOf(ctx, s.blocks, dir.Entries, name)
		if err != nil || !found {
			return 0, false, err
		}
		n += 1 + number
		dir = row.Attr
	}
	return n, true, nil
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
