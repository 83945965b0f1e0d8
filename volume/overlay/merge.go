package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// ErrMismatch says that an upper directory does not belong to the base it was given with.
var ErrMismatch = fmt.Errorf("upper directory does not belong to this snapshot: %w", snapshot.ErrFormat)

// Merge makes the snapshot that is seen through an overlay mount: layers is a snapshot of the mount's own
// directory, with upper in it, base that of the lower layer. The commit has Tree, Meta and Stats set.
//
// It reads, besides layers, only those directories of the base that layers has as well.
func Merge(ctx context.Context, b snapshot.Blocks, base, layers *tree.Snapshot) (*snapshot.Commit, error) {
	m := &merger{base: base, layers: layers, w: apply.New(b, base)}
	if err := m.readLinks(ctx); err != nil {
		return nil, fmt.Errorf("merge overlay: %w", err)
	}
	upper, err := layers.Lookup(ctx, upperDir)
	if err != nil {
		return nil, fmt.Errorf("merge overlay: %w", err)
	}
	root := base.Root()
	e, err := m.dir(ctx, &place{base: &root, upper: upper, raw: upperDir})
	if err != nil {
		return nil, fmt.Errorf("merge overlay: %w", err)
	}
	return m.w.Commit(ctx, e)
}

type merger struct {
	base, layers *tree.Snapshot
	w            *apply.Writer
	links        map[string]string // path in layers of a file of several names → that of their leader
}

// place is a directory of the merged tree.
type place struct {
	name  string
	path  string      // in the merged tree
	base  *tree.Entry // directory of the base, if it has part in it
	from  string      // path in the base
	upper tree.Entry  // directory of upper
	raw   string      // path in layers
	depth int
}

// dir merges one directory and all below it.
func (m *merger) dir(ctx context.Context, p *place) (apply.Entry, error) {
	if p.depth > tree.DefaultMaxDepth {
		return apply.Entry{}, fmt.Errorf("%q: deeper than %d directories: %w", p.path, tree.DefaultMaxDepth, snapshot.ErrFormat)
	}
	if err := ctx.Err(); err != nil {
		return apply.Entry{}, err
	}
	lowers, uppers, err := m.list(ctx, p)
	if err != nil {
		return apply.Entry{}, err
	}
	var entries []apply.Entry
	for st, u := range join(lowers, uppers) {
		var e apply.Entry
		shown := true
		if u == nil {
			e, err = m.w.Keep(ctx, *st)
		} else {
			e, shown, err = m.entry(ctx, p, *u, st)
		}
		if err != nil {
			return apply.Entry{}, err
		}
		if shown {
			entries = append(entries, e)
		}
	}
	_, attr, err := split(ctx, m.layers, p.upper)
	if err != nil {
		return apply.Entry{}, fmt.Errorf("%q: %w", p.path, err)
	}
	return m.w.Dir(ctx, p.name, attr, entries, p.base == nil)
}

// list returns what the base and upper have in a place, each in byte order of the names.
func (m *merger) list(ctx context.Context, p *place) (lowers []tree.Stored, uppers []tree.Entry, _ error) {
	if p.base != nil {
		for st, err := range m.base.Stored(ctx, *p.base) {
			if err != nil {
				return nil, nil, err
			}
			lowers = append(lowers, st)
		}
	}
	for u, err := range m.layers.Entries(ctx, p.upper) {
		if err != nil {
			return nil, nil, err
		}
		uppers = append(uppers, u)
	}
	return lowers, uppers, nil
}

// join pairs entries of the same name; one of a pair may be nil.
func join(lowers []tree.Stored, uppers []tree.Entry) iter.Seq2[*tree.Stored, *tree.Entry] {
	return func(yield func(*tree.Stored, *tree.Entry) bool) {
		for len(lowers) > 0 || len(uppers) > 0 {
			var st *tree.Stored
			var u *tree.Entry
			if len(uppers) == 0 || len(lowers) > 0 && lowers[0].Name <= uppers[0].Name {
				st = &lowers[0]
			}
			if st == nil || len(uppers) > 0 && uppers[0].Name == st.Name {
				u = &uppers[0]
			}
			if !yield(st, u) {
				return
			}
			if st != nil {
				lowers = lowers[1:]
			}
			if u != nil {
				uppers = uppers[1:]
			}
		}
	}
}

// entry takes an entry of upper; st is what the base has at its place. It is false for one that is not shown.
func (m *merger) entry(ctx context.Context, p *place, u tree.Entry, st *tree.Stored) (apply.Entry, bool, error) {
	from, to := tree.Join(p.from, u.Name), tree.Join(p.path, u.Name)
	if isWhiteout(u) {
		if st != nil {
			m.w.Drop(from)
		}
		return apply.Entry{}, false, nil
	}
	marks, attr, err := split(ctx, m.layers, u)
	if err != nil {
		return apply.Entry{}, false, fmt.Errorf("%q: %w", to, err)
	}
	raw := tree.Join(p.raw, u.Name)
	if u.IsDir() {
		e, err := m.upperDir(ctx, p, u, st, marks, raw)
		return e, err == nil, err
	}
	if st != nil {
		m.w.Drop(from)
	}
	if marks.metacopy {
		if err := m.takeData(ctx, p, &u, &attr, marks.redirect); err != nil {
			return apply.Entry{}, false, fmt.Errorf("%q: %w", to, err)
		}
	}
	e, err := m.put(ctx, to, u, attr, m.links[raw])
	return e, err == nil, err
}

func (m *merger) upperDir(ctx context.Context, p *place, u tree.Entry, st *tree.Stored, k marks, raw string) (apply.Entry, error) {
	next := &place{name: u.Name, path: tree.Join(p.path, u.Name), upper: u, raw: raw, depth: p.depth + 1}
	same := tree.Join(p.from, u.Name)
	switch {
	case k.opaque:
	case k.redirect != "":
		from, err := redirected(p, k.redirect)
		if err != nil {
			return apply.Entry{}, fmt.Errorf("%q: %w", next.path, err)
		}
		dir, err := m.base.Lookup(ctx, from)
		if err != nil || !dir.IsDir() {
			return apply.Entry{}, m.mismatch(next.path, from, err)
		}
		next.base, next.from = &dir, from
	case st != nil && p.base != nil:
		dir, err := m.base.Resolve(ctx, *st)
		if err != nil {
			return apply.Entry{}, err
		}
		if dir.IsDir() {
			next.base, next.from = &dir, same
		}
	}
	moved := next.base != nil && (p.base == nil || next.from != same)
	if st != nil && (next.base == nil || moved) {
		m.w.Drop(same)
	}
	if moved {
		m.w.Move(next.from, next.path)
	}
	return m.dir(ctx, next)
}

// redirected is the path in the base that a redirect names: from the top, or a name beside where the entry would
// be.
func redirected(p *place, redirect string) (string, error) {
	if abs, ok := strings.CutPrefix(redirect, "/"); ok {
		for name := range strings.SplitSeq(abs, "/") {
			if meta.CheckName(name) != nil {
				return "", fmt.Errorf("redirect to %q: %w", redirect, ErrMismatch)
			}
		}
		return abs, nil
	}
	if meta.CheckName(redirect) != nil || p.base == nil {
		return "", fmt.Errorf("redirect to %q: %w", redirect, ErrMismatch)
	}
	return path.Join(p.from, redirect), nil
}

func (m *merger) mismatch(to, from string, err error) error {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%q needs %q of the base: %w", to, from, ErrMismatch)
}

// takeData gives a file of which upper has only the attributes the data that the base has.
func (m *merger) takeData(ctx context.Context, p *place, u *tree.Entry, attr *meta.Attr, redirect string) error {
	from := tree.Join(p.from, u.Name)
	if redirect != "" {
		var err error
		if from, err = redirected(p, redirect); err != nil {
			return err
		}
	}
	data, err := m.base.Lookup(ctx, from)
	if err != nil || data.Type != meta.File {
		return m.mismatch(u.Name, from, err)
	}
	return copyData(u, attr, data)
}

// put adds an entry that is no directory.
func (m *merger) put(ctx context.Context, to string, e tree.Entry, attr meta.Attr, link string) (apply.Entry, error) {
	return m.w.Put(ctx, to, apply.Entry{Child: child(e), Row: meta.Row{Name: e.Name, Attr: attr}}, e.Size, link)
}

func isWhiteout(e tree.Entry) bool {
	return e.Type == meta.CharDevice && e.Major == 0 && e.Minor == 0
}

func sortXattrs(xs []meta.Xattr) {
	slices.SortFunc(xs, func(a, b meta.Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// readLinks learns which names of layers are one file.
func (m *merger) readLinks(ctx context.Context) error {
	m.links = map[string]string{}
	for h, err := range m.layers.Hardlinks(ctx) {
		if err != nil {
			return err
		}
		m.links[h.Path], m.links[h.Leader] = h.Leader, h.Leader
	}
	return nil
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
