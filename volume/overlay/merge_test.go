package overlay_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/volary/volary/snapshot/meta"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume/overlay"
)

func xattrs(pairs ...string) func(*meta.Attr) {
	return func(a *meta.Attr) {
		for i := 0; i < len(pairs); i += 2 {
			a.Xattrs = append(a.Xattrs, meta.Xattr{Name: pairs[i], Value: []byte(pairs[i+1])})
		}
	}
}

func mode(m uint16) func(*meta.Attr) { return func(a *meta.Attr) { a.Mode = m } }

var whiteout = tt.Special(meta.CharDevice, 0, 0)

type children = map[string]tt.Node

// base is the snapshot that all cases change.
func base() children {
	return children{
		"a": tt.File("a"), "b": tt.Symlink("a"),
		"dir": tt.Dir(children{
			"fifo": tt.Special(meta.FIFO, 0, 0), "file": tt.File("file"),
			"sub": tt.Dir(children{"deep": tt.Dir(children{"f": tt.File("f")}), "x": tt.File("x").With(func(a *meta.Attr) { a.Sparse = true })}),
		}),
		"other": tt.Dir(children{"dir": tt.Dir(nil), "y": tt.File("y")}),
	}
}

// edited is the base with changes.
func edited(change func(children)) children {
	c := base()
	change(c)
	return c
}

func TestMergeMakesWhatTheKernelShows(t *testing.T) {
	for name, c := range map[string]struct {
		upper children
		want  children
	}{
		"nothing": {children{}, base()},
		"a new file": {
			children{"dir": tt.Dir(children{"sub": tt.Dir(children{"new": tt.File("new")})})},
			edited(func(c children) { c["dir"].Children["sub"].Children["new"] = tt.File("new") }),
		},
		"a file in place of another": {
			children{"dir": tt.Dir(children{"file": tt.File("changed").With(mode(0o600))})},
			edited(func(c children) { c["dir"].Children["file"] = tt.File("changed").With(mode(0o600)) }),
		},
		"a whiteout": {
			children{"dir": tt.Dir(children{"sub": whiteout}), "none": whiteout},
			edited(func(c children) { delete(c["dir"].Children, "sub") }),
		},
		"a directory's attributes": {
			children{"dir": tt.Dir(children{"sub": tt.Dir(nil).With(mode(0o700))})},
			edited(func(c children) { c["dir"].Children["sub"] = c["dir"].Children["sub"].With(mode(0o700)) }),
		},
		"an opaque directory": {
			children{"dir": tt.Dir(children{"n": tt.File("n")}).With(xattrs("trusted.overlay.opaque", "y"))},
			edited(func(c children) { c["dir"] = tt.Dir(children{"n": tt.File("n")}) }),
		},
		"opaque that only says that whiteouts may be inside": {
			children{"dir": tt.Dir(children{"n": tt.File("n")}).With(xattrs("trusted.overlay.opaque", "x"))},
			edited(func(c children) { c["dir"].Children["n"] = tt.File("n") }),
		},
		"a directory in place of a file": {
			children{"a": tt.Dir(children{"n": tt.File("n")}).With(xattrs("trusted.overlay.opaque", "y"))},
			edited(func(c children) { c["a"] = tt.Dir(children{"n": tt.File("n")}) }),
		},
		"a directory moved within its own": {
			children{
				"dir": whiteout,
				"rid": tt.Dir(children{"new": tt.File("new"), "file": whiteout}).With(xattrs("trusted.overlay.redirect", "dir")),
			},
			edited(func(c children) {
				c["rid"] = c["dir"]
				c["rid"].Children["new"] = tt.File("new")
				delete(c["rid"].Children, "file")
				delete(c, "dir")
			}),
		},
		"directories moved across, one out of another that was moved": {
			children{
				"dir": whiteout,
				"other": tt.Dir(children{
					"dir":   tt.Dir(children{"sub": whiteout}).With(xattrs("trusted.overlay.redirect", "/dir")),
					"moved": tt.Dir(children{"g": tt.File("g")}).With(xattrs("trusted.overlay.redirect", "/dir/sub")),
				}),
			},
			edited(func(c children) {
				dir, sub := c["dir"], c["dir"].Children["sub"]
				delete(dir.Children, "sub")
				delete(c, "dir")
				sub.Children["g"] = tt.File("g")
				c["other"].Children["dir"], c["other"].Children["moved"] = dir, sub
			}),
		},
		"a file of which only the attributes were copied": {
			children{"dir": tt.Dir(children{"sub": tt.Dir(children{
				"x": tt.File("\x00").With(mode(0o400)).With(xattrs("trusted.overlay.metacopy", "")),
			})})},
			edited(func(c children) {
				sub := c["dir"].Children["sub"].Children
				sub["x"] = sub["x"].With(mode(0o400))
			}),
		},
		"such a file, moved": {
			children{
				"dir":   tt.Dir(children{"file": whiteout}),
				"other": tt.Dir(children{"z": tt.File("\x00\x00").With(xattrs("trusted.overlay.metacopy", "", "trusted.overlay.redirect", "/dir/file"))}),
			},
			edited(func(c children) {
				c["other"].Children["z"] = c["dir"].Children["file"]
				delete(c["dir"].Children, "file")
			}),
		},
		"attributes of the user's own that look like the kernel's": {
			children{"a": tt.File("a").With(xattrs("trusted.overlay.impure", "y", "trusted.overlay.origin", "o",
				"trusted.overlay.overlay.opaque", "mine", "user.x", "1"))},
			edited(func(c children) { c["a"] = c["a"].With(xattrs("trusted.overlay.opaque", "mine", "user.x", "1")) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := tt.NewMemory()
			layers := tt.Dir(children{"upper": tt.Dir(c.upper), "work": tt.Dir(nil)})
			merged(t, b, tt.Commit(t, b, tt.Dir(base())), tt.Commit(t, b, layers), tt.Commit(t, b, tt.Dir(c.want)))
		})
	}
}

// link stores hardlinks as "path", "leader" pairs.
func links(pairs ...string) (hs []meta.Hardlink) {
	for i := 0; i < len(pairs); i += 2 {
		hs = append(hs, meta.Hardlink{Path: pairs[i], Leader: pairs[i+1]})
	}
	return hs
}

func TestMergeFollowsHardlinks(t *testing.T) {
	one, changed := tt.File("one"), tt.File("changed")
	stub := func(path string) tt.Node {
		return tt.File("\x00\x00\x00").With(xattrs("trusted.overlay.metacopy", "", "trusted.overlay.redirect", "/"+path))
	}
	before := children{"a": one, "d": tt.Dir(children{"b": one, "e": tt.Dir(children{"c": one})}), "z": tt.File("z")}
	beforeLinks := links("d/b", "a", "d/e/c", "a")
	stubLinks := links("upper/d/b", "upper/a", "upper/d/e/c", "upper/a")
	for name, c := range map[string]struct {
		upper      children
		upperLinks []meta.Hardlink
		want       children
		wantLinks  []meta.Hardlink
	}{
		"names of one file, untouched": {
			upper:      children{"a": stub("a"), "d": tt.Dir(children{"b": stub("a"), "e": tt.Dir(children{"c": stub("a")})})},
			upperLinks: stubLinks,
			want:       before,
			wantLinks:  beforeLinks,
		},
		"a write by one name shows at all": {
			upper:      children{"a": changed, "d": tt.Dir(children{"b": changed, "e": tt.Dir(children{"c": changed})})},
			upperLinks: stubLinks,
			want:       children{"a": changed, "d": tt.Dir(children{"b": changed, "e": tt.Dir(children{"c": changed})}), "z": tt.File("z")},
			wantLinks:  beforeLinks,
		},
		"a name removed, and the directory of another moved": {
			upper: children{
				"a": whiteout, "d": whiteout,
				"n": tt.Dir(children{"b": stub("a"), "e": tt.Dir(children{"c": stub("a")})}).With(xattrs("trusted.overlay.redirect", "d")),
			},
			upperLinks: links("upper/n/e/c", "upper/n/b"),
			want:       children{"n": tt.Dir(children{"b": one, "e": tt.Dir(children{"c": one})}), "z": tt.File("z")},
			wantLinks:  links("n/e/c", "n/b"),
		},
		"without stubs, a name replaced leaves the others together": {
			upper:     children{"a": tt.File("other")},
			want:      children{"a": tt.File("other"), "d": tt.Dir(children{"b": one, "e": tt.Dir(children{"c": one})}), "z": tt.File("z")},
			wantLinks: links("d/e/c", "d/b"),
		},
		"without stubs, all names but one gone": {
			upper: children{"d": whiteout},
			want:  children{"a": one, "z": tt.File("z")},
		},
		"without stubs, a directory with names moved": {
			upper:     children{"d": whiteout, "A": tt.Dir(nil).With(xattrs("trusted.overlay.redirect", "d"))},
			want:      children{"a": one, "A": before["d"], "z": tt.File("z")},
			wantLinks: links("A/e/c", "A/b", "a", "A/b"),
		},
		"without stubs, a directory with names moved into a new one, under its own name": {
			upper:     children{"d": whiteout, "n": tt.Dir(children{"d": tt.Dir(nil).With(xattrs("trusted.overlay.redirect", "/d"))})},
			want:      children{"a": one, "n": tt.Dir(children{"d": before["d"]}), "z": tt.File("z")},
			wantLinks: links("n/d/b", "a", "n/d/e/c", "a"),
		},
		"new names": {
			upper:      children{"m": changed, "n": changed},
			upperLinks: links("upper/n", "upper/m"),
			want:       edit(before, children{"m": changed, "n": changed}),
			wantLinks:  links("d/b", "a", "d/e/c", "a", "n", "m"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := tt.NewMemory()
			layers := tt.Dir(children{"upper": tt.Dir(c.upper), "work": tt.Dir(nil)})
			merged(t, b, tt.Commit(t, b, tt.Dir(before), beforeLinks...), tt.Commit(t, b, layers, c.upperLinks...),
				tt.Commit(t, b, tt.Dir(c.want), c.wantLinks...))
		})
	}
}

func edit(c, with children) children {
	c = maps.Clone(c)
	maps.Copy(c, with)
	return c
}

func TestMergeFollowsARedirectThroughAnyName(t *testing.T) {
	b := tt.NewMemory()
	dir := tt.Dir(children{"f": tt.File("f")})
	layers := tt.Commit(t, b, tt.Dir(children{"work": tt.Dir(nil), "upper": tt.Dir(children{
		"\xff": tt.Dir(children{"d": whiteout}), "n": tt.Dir(nil).With(xattrs("trusted.overlay.redirect", "/\xff/d")),
	})}))
	merged(t, b, tt.Commit(t, b, tt.Dir(children{"\xff": tt.Dir(children{"d": dir})})), layers,
		tt.Commit(t, b, tt.Dir(children{"\xff": tt.Dir(nil), "n": dir})))
}

func TestMergeRefusesAnUpperOfAnotherBase(t *testing.T) {
	for name, upper := range map[string]children{
		"a directory that the base lacks": {"n": tt.Dir(nil).With(xattrs("trusted.overlay.redirect", "/gone"))},
		"data that the base lacks":        {"n": tt.File("").With(xattrs("trusted.overlay.metacopy", ""))},
		"data of what is no file":         {"dir": whiteout, "n": tt.File("").With(xattrs("trusted.overlay.metacopy", "", "trusted.overlay.redirect", "dir"))},
		"a path out of the base":          {"n": tt.Dir(nil).With(xattrs("trusted.overlay.redirect", "/../etc"))},
	} {
		t.Run(name, func(t *testing.T) {
			b := tt.NewMemory()
			layers := tt.Commit(t, b, tt.Dir(children{"upper": tt.Dir(upper), "work": tt.Dir(nil)}))
			s, l := open(t, b, tt.Commit(t, b, tt.Dir(base()))), open(t, b, layers)
			if _, err := overlay.Merge(t.Context(), b, s, l); !errors.Is(err, overlay.ErrMismatch) {
				t.Errorf("merged: %v", err)
			}
		})
	}
}

func TestMergeOntoAForeignTreeDescribesAllOfIt(t *testing.T) {
	b := tt.NewMemory()
	layers := tt.Commit(t, b, tt.Dir(children{"upper": tt.Dir(children{"dir": tt.Dir(children{"n": tt.File("n")})}), "work": tt.Dir(nil)}))
	plain := func(c children) children { return strip(tt.Dir(c)).Children }
	before := children{"a": tt.File("a"), "dir": tt.Dir(children{"f": tt.File("f")}), "more": tt.Dir(children{"d": tt.Dir(nil), "s": tt.Symlink("x")})}
	want := plain(before)
	want["dir"] = tt.Dir(children{"f": want["dir"].Children["f"], "n": tt.File("n")})
	merged(t, b, tt.Tree(t, b, tt.Dir(before)), layers, tt.Commit(t, b, tt.Dir(want)))
}
