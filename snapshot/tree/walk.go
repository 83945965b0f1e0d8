package tree

import (
	"context"
	"fmt"
	"iter"

	"github.com/volary/volary/snapshot"
)

const (
	// DefaultMaxDepth is how many levels of directories a walk enters: as many as a path of PATH_MAX has.
	DefaultMaxDepth = 2048
	// DefaultMaxEntries is how many entries a walk yields. A DAG of a few blocks can have more entries than
	// any disk.
	DefaultMaxEntries = 1 << 25
)

// Limits bound a walk; a zero is the default. What goes beyond is an error that wraps [snapshot.ErrFormat].
type Limits struct {
	MaxDepth   int
	MaxEntries uint64
}

// Budget counts a walk against its limits. Start with [Limits.Budget].
type Budget struct {
	limits  Limits
	entries uint64
}

// Budget returns a fresh count.
func (l Limits) Budget() *Budget {
	if l.MaxDepth == 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	if l.MaxEntries == 0 {
		l.MaxEntries = DefaultMaxEntries
	}
	return &Budget{limits: l}
}

// Entry counts one entry at a depth; the root's entries have depth 1.
func (b *Budget) Entry(depth int) error {
	b.entries++
	switch {
	case b.entries > b.limits.MaxEntries:
		return fmt.Errorf("more than %d entries: %w", b.limits.MaxEntries, snapshot.ErrFormat)
	case depth > b.limits.MaxDepth:
		return fmt.Errorf("deeper than %d directories: %w", b.limits.MaxDepth, snapshot.ErrFormat)
	}
	return nil
}

// Located is an entry and where it is.
type Located struct {
	Path string // relative to the snapshot's root, without leading slash; empty for the root
	Entry
}

// Walk yields the entry at a path and all below it, each directory before its entries, and those in byte
// order of their names. It follows no symlinks.
func (s *Snapshot) Walk(ctx context.Context, path string, l Limits) iter.Seq2[Located, error] {
	return func(yield func(Located, error) bool) {
		path, err := cleanPath(path)
		var top Entry
		if err == nil {
			top, err = s.Lookup(ctx, path)
		}
		if err != nil {
			yield(Located{}, err)
			return
		}
		w := walk{ctx: ctx, s: s, budget: l.Budget(), yield: yield}
		if yield(Located{Path: path, Entry: top}, nil) && top.IsDir() {
			w.dir(path, top, 1)
		}
	}
}

type walk struct {
	ctx    context.Context
	s      *Snapshot
	budget *Budget
	yield  func(Located, error) bool
}

// dir yields everything below a directory, and reports whether the walk goes on.
func (w *walk) dir(path string, dir Entry, depth int) bool {
	for e, err := range w.s.Entries(w.ctx, dir) {
		if err == nil {
			err = w.budget.Entry(depth)
		}
		if err == nil {
			err = w.ctx.Err()
		}
		if err != nil {
			w.yield(Located{}, fmt.Errorf("walk %q: %w", path, err))
			return false
		}
		at := Join(path, e.Name)
		if !w.yield(Located{Path: at, Entry: e}, nil) || e.IsDir() && !w.dir(at, e, depth+1) {
			return false
		}
	}
	return true
}

// Join is the path of a name in a directory.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
