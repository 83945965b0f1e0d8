package modeltest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// Comparison says which times of two snapshots can be compared. Those that were set, or were there before, must
// be equal. Those that the kernel gave since are readings of two clocks, of which only that much can be said.
//
// Holes are compared if Holes says so. When overlayfs copies a file up, it looks for a hole once in each MiB.
type Comparison struct {
	Since    time.Time
	Holes    bool
	AnyTime  func(path string) bool // no more can be said than that there is a time; nil for none
	AnyHoles func(path string) bool // nothing can be said of its holes; nil for none
}

// maxDifferences is how many are listed.
const maxDifferences = 20

// Compare lists in what a snapshot differs from the one that is right: names, types, contents, permissions,
// owners, times, extended attributes, devices, holes, names of one file, and the counts in the commit.
func Compare(ctx context.Context, got, want *tree.Snapshot, c Comparison) ([]string, error) {
	var all []string
	differ := func(path, what string, got, want any) {
		all = append(all, fmt.Sprintf("%q: %s is %v, want %v", path, what, got, want))
	}
	nextGot, stopGot := iter.Pull2(got.Walk(ctx, "", tree.Limits{}))
	defer stopGot()
	nextWant, stopWant := iter.Pull2(want.Walk(ctx, "", tree.Limits{}))
	defer stopWant()
	for len(all) < maxDifferences {
		g, err, more := nextGot()
		w, errWant, moreWant := nextWant()
		if err != nil || errWant != nil {
			return all, fmt.Errorf("walk: %v, %v", err, errWant)
		}
		if more != moreWant || g.Path != w.Path {
			differ(g.Path, "the next path", g.Path, w.Path)
			break
		}
		if !more {
			break
		}
		if err := c.entry(ctx, got, want, g, w, differ); err != nil {
			return all, err
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	if err := compareLinks(ctx, got, want, differ); err != nil {
		return all, err
	}
	if got.Commit.Tree != want.Commit.Tree {
		differ("", "the tree", got.Commit.Tree, want.Commit.Tree)
	}
	if got.Commit.Stats != want.Commit.Stats {
		differ("", "the count", got.Commit.Stats, want.Commit.Stats)
	}
	return all, nil
}

func (c Comparison) entry(ctx context.Context, got, want *tree.Snapshot, g, w tree.Located, differ func(string, string, any, any)) error {
	holes := c.Holes && (c.AnyHoles == nil || !c.AnyHoles(g.Path))
	for _, f := range []struct {
		what      string
		got, want any
	}{
		{"type", g.Type, w.Type}, {"mode", g.Mode, w.Mode}, {"uid", g.UID, w.UID}, {"gid", g.GID, w.GID},
		{"device", [2]uint32{g.Major, g.Minor}, [2]uint32{w.Major, w.Minor}}, {"target", g.Target, w.Target},
		{"size", g.Size, w.Size}, {"content", g.CID.String(), w.CID.String()}, {"below", g.Below, w.Below},
		{"sparse", holes && g.Sparse, holes && w.Sparse},
	} {
		// A directory's own CID differs wherever something below does, which is told there.
		if f.got != f.want && !(f.what == "content" && g.IsDir()) {
			differ(g.Path, f.what, f.got, f.want)
		}
	}
	if !c.sameTime(g.Mtime(), w.Mtime()) && (c.AnyTime == nil || !c.AnyTime(g.Path)) {
		differ(g.Path, "time", g.Mtime(), w.Mtime())
	}
	xs, err := got.Xattrs(ctx, g.Entry)
	if err != nil {
		return err
	}
	ys, err := want.Xattrs(ctx, w.Entry)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(xs, ys, func(a, b meta.Xattr) bool { return a.Name == b.Name && string(a.Value) == string(b.Value) }) {
		differ(g.Path, "attributes", fmt.Sprintf("%q", xs), fmt.Sprintf("%q", ys))
	}
	return nil
}

func (c Comparison) sameTime(got, want time.Time) bool {
	return got.Equal(want) || !got.Before(c.Since) && !want.Before(c.Since)
}

// compareLinks compares which names are of one file. The first of them leads in both.
func compareLinks(ctx context.Context, got, want *tree.Snapshot, differ func(string, string, any, any)) error {
	leaders, err := linksOf(ctx, got)
	if err != nil {
		return err
	}
	wanted, err := linksOf(ctx, want)
	if err != nil {
		return err
	}
	for path, leader := range leaders {
		if wanted[path] != leader {
			differ(path, "the same file", leader, wanted[path])
		}
	}
	for path, leader := range wanted {
		if leaders[path] == "" {
			differ(path, "the same file", "", leader)
		}
	}
	return nil
}

func linksOf(ctx context.Context, s *tree.Snapshot) (map[string]string, error) {
	leaders := map[string]string{}
	for h, err := range s.Hardlinks(ctx) {
		if err != nil {
			return nil, err
		}
		leaders[h.Path] = h.Leader
	}
	return leaders, nil
}
