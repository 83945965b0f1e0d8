// Package diff says what two snapshots differ in.
//
// Start with [Diff]. Equal subtrees are skipped by their CIDs without being read, so the cost is that of the
// directories that differ. To compare with a directory on the disk, import it into an [Overlay], which keeps
// nothing of the files but their CIDs and writes nothing, and diff the two snapshots.
//
// Files are compared by CID: the same bytes cut into other chunks are another content.
package diff

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// Kind is what happened to a path.
type Kind string

const (
	Added    Kind = "added"
	Removed  Kind = "removed"
	Type     Kind = "type"     // a file became a directory, say
	Content  Kind = "content"  // bytes of a file, target of a symlink, number of a device; perhaps metadata too
	Metadata Kind = "metadata" // only that
)

// Field is a piece of metadata.
type Field string

const (
	Mode     Field = "mode"
	Owner    Field = "owner" // user or group
	Mtime    Field = "mtime"
	Xattrs   Field = "xattrs"
	Sparse   Field = "sparse"
	Hardlink Field = "hardlink" // which other path is the same file
)

// Change is one difference between two snapshots.
type Change struct {
	Path   string // relative to the roots, without leading slash; empty for the roots
	Kind   Kind
	Fields []Field     // metadata that differ, where there is something on both sides and both have a sidecar
	Before *tree.Entry // nil if added
	After  *tree.Entry // nil if removed
}

// Diff yields the changes that make b of a, in the order of [tree.Snapshot.Walk]; of what was added, removed or
// changed its type, also everything below. If only one of the two has a sidecar, as a commit has and a foreign
// DAG has not, only what a tree can hold is compared.
func Diff(ctx context.Context, a, b *tree.Snapshot, l tree.Limits) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{
			ctx: ctx, a: side{s: a, budget: l.Budget()}, b: side{s: b, budget: l.Budget()},
			full: a.HasSidecar() == b.HasSidecar(), yield: yield,
		}
		if err := d.run(); err != nil && !d.done {
			yield(Change{}, fmt.Errorf("diff: %w", err))
		}
	}
}

type differ struct {
	ctx   context.Context
	a, b  side
	full  bool // compare what only a sidecar holds
	links links
	yield func(Change, error) bool
	done  bool // yield asked for no more
}

// side is one of the two snapshots.
type side struct {
	s      *tree.Snapshot
	budget *tree.Budget
}

func (d *differ) run() error {
	if d.full {
		var err error
		if d.links, err = changedLinks(d.ctx, d.a.s, d.b.s); err != nil {
			return err
		}
	}
	x, y := d.a.s.Root(), d.b.s.Root()
	return d.pair("", &x, &y, 0)
}

func (d *differ) emit(c Change) {
	if !d.done {
		d.done = !d.yield(c, nil)
	}
}

// pair compares what is at a path on both sides; either may be nil.
func (d *differ) pair(path string, x, y *tree.Entry, depth int) error {
	if err := d.count(x, y, depth); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	c := Change{Path: path, Before: x, After: y}
	switch {
	case x == nil:
		c.Kind = Added
	case y == nil:
		c.Kind = Removed
	case x.Type != y.Type:
		c.Kind, c.Fields = Type, d.fields(path, x, y)
	default:
		c.Fields = d.fields(path, x, y)
		if !x.IsDir() && (x.CID != y.CID || x.Major != y.Major || x.Minor != y.Minor) {
			c.Kind = Content
		} else if len(c.Fields) > 0 {
			c.Kind = Metadata
		}
	}
	if c.Kind != "" {
		d.emit(c)
	}
	if x != nil && !x.IsDir() {
		x = nil
	}
	if y != nil && !y.IsDir() {
		y = nil
	}
	if x == nil && y == nil || x != nil && y != nil && d.equal(path, x, y) {
		return nil
	}
	return d.below(path, x, y, depth)
}

func (d *differ) count(x, y *tree.Entry, depth int) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if x != nil {
		if err := d.a.budget.Entry(depth); err != nil {
			return err
		}
	}
	if y != nil {
		return d.b.budget.Entry(depth)
	}
	return nil
}

// equal reports whether nothing below two directories differs.
func (d *differ) equal(path string, x, y *tree.Entry) bool {
	return x.CID == y.CID && (!d.full || x.Entries == y.Entries && !d.links.below(path))
}

// below compares the entries of two directories; a nil one has none.
func (d *differ) below(path string, x, y *tree.Entry, depth int) error {
	nextX, stopX := iter.Pull2(d.entries(d.a.s, x))
	defer stopX()
	nextY, stopY := iter.Pull2(d.entries(d.b.s, y))
	defer stopY()
	ex, errX, okX := nextX()
	ey, errY, okY := nextY()
	for (okX || okY) && !d.done {
		for _, err := range []error{errX, errY} {
			if err != nil {
				return fmt.Errorf("%q: %w", path, err)
			}
		}
		var px, py *tree.Entry
		name := ex.Name
		if okX && (!okY || ex.Name <= ey.Name) {
			e := ex
			px = &e
		}
		if okY && (!okX || ey.Name <= ex.Name) {
			e := ey
			py, name = &e, ey.Name
		}
		if err := d.pair(tree.Join(path, name), px, py, depth+1); err != nil {
			return err
		}
		if px != nil {
			ex, errX, okX = nextX()
		}
		if py != nil {
			ey, errY, okY = nextY()
		}
	}
	return nil
}

func (d *differ) entries(s *tree.Snapshot, dir *tree.Entry) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		if dir == nil {
			return
		}
		for e, err := range s.Entries(d.ctx, *dir) {
			if err == nil && !d.full && !e.Type.InTree() {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// fields are the metadata that differ between two entries.
func (d *differ) fields(path string, x, y *tree.Entry) []Field {
	if !d.full {
		return nil
	}
	var fs []Field
	add := func(differs bool, f Field) {
		if differs {
			fs = append(fs, f)
		}
	}
	add(x.Mode != y.Mode, Mode)
	add(x.UID != y.UID || x.GID != y.GID, Owner)
	add(x.Sec != y.Sec || x.Nsec != y.Nsec, Mtime)
	add(x.XattrsAt != y.XattrsAt || !slices.EqualFunc(x.Xattrs, y.Xattrs, sameXattr), Xattrs)
	add(x.Sparse != y.Sparse, Sparse)
	add(d.links.at(path), Hardlink)
	return fs
}

func sameXattr(a, b meta.Xattr) bool { return a.Name == b.Name && string(a.Value) == string(b.Value) }
