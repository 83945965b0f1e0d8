// Package merge makes one snapshot of two that began as the same one.
//
// Start with [Merge]. What only one side changed since the base is taken, for each path by itself and for its content,
// mode, owner and extended attributes each; of two times the later one counts. What both changed otherwise is a
// [Conflict], of which [Options] say what becomes. All names of a file that has several are merged as one, if a side
// gave it or took from it a name. What was renamed counts as removed and added.
//
// It guarantees: the same three snapshots give the same CIDs, those that an import of the merged directory has, on
// every host; nothing that a side changed is missing from the result unless it is in a conflict; directories that are
// the same on both sides are not read.
package merge

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/tree"
)

// Take says what becomes of conflicts.
type Take string

const (
	None   Take = ""       // they are found; the result is not to be used if there are some
	Ours   Take = "ours"   // as in ours
	Theirs Take = "theirs" // as in theirs
	// Both puts theirs beside ours under another name, [Options.Suffix]. What only one side has is as that one has it, and
	// directories have the attributes of ours.
	Both Take = "keep-both"
)

// Options of a merge.
type Options struct {
	Take   Take
	Suffix string // of the names of what Both puts beside something; more is added where there is such a name
}

// Conflict is a path that both sides changed, each in its own way.
type Conflict struct {
	Path   string    `json:"path"`
	Ours   diff.Kind `json:"ours"` // what became of it since the base; empty: nothing, but of another name of the file
	Theirs diff.Kind `json:"theirs"`
}

// Result is what two snapshots give. Tree, Meta, Stats and NoXattrs of its commit are set.
type Result struct {
	Commit    *snapshot.Commit
	Conflicts []Conflict // in byte order of the paths
	Changed   uint64     // entries that are not as in ours, those below a directory not counted
}

// Merge brings what changed from base to theirs into ours. base is nil if they have nothing in common: then all that is
// not the same is a conflict where both have something. It writes to b, which also has the blocks of the three.
func Merge(ctx context.Context, b snapshot.Blocks, base, ours, theirs *tree.Snapshot, o Options) (Result, error) {
	m := &merger{o: o, budget: tree.Limits{}.Budget(), drops: map[string]bool{}}
	for i, s := range []*tree.Snapshot{base, ours, theirs} {
		var err error
		if m.sides[i], err = whole(ctx, b, s); err != nil {
			return Result{}, fmt.Errorf("merge: %w", err)
		}
	}
	switch {
	case same(m.sides[theirSide], m.sides[ourSide]), same(m.sides[theirSide], m.sides[baseSide]):
		return Result{Commit: bare(m.sides[ourSide])}, nil
	case same(m.sides[ourSide], m.sides[baseSide]):
		return Result{Commit: bare(m.sides[theirSide]), Changed: 1}, nil
	}
	m.w = apply.New(b, m.sides[ourSide])
	res, err := m.run(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("merge: %w", err)
	}
	return res, nil
}

// whole is a snapshot with a row for every entry.
func whole(ctx context.Context, b snapshot.Blocks, s *tree.Snapshot) (*tree.Snapshot, error) {
	if s == nil || s.HasSidecar() && s.Commit != nil {
		return s, nil
	}
	c, err := apply.Complete(ctx, b, s)
	if err != nil {
		return nil, err
	}
	return tree.OpenCommit(ctx, b, c)
}

func same(a, b *tree.Snapshot) bool {
	return a != nil && b != nil && a.Commit.Tree == b.Commit.Tree && a.Commit.Meta == b.Commit.Meta
}

func bare(s *tree.Snapshot) *snapshot.Commit {
	c := s.Commit
	return &snapshot.Commit{Tree: c.Tree, Meta: c.Meta, Stats: c.Stats, NoXattrs: c.NoXattrs}
}

const (
	baseSide = iota
	ourSide
	theirSide
)

type merger struct {
	o         Options
	sides     [3]*tree.Snapshot // that of the base may be nil
	w         *apply.Writer     // of a snapshot made from ours
	links     links
	budget    *tree.Budget
	drops     map[string]bool // paths of ours whose entry is not there any more
	conflicts []Conflict
	changed   uint64
}

func (m *merger) run(ctx context.Context) (Result, error) {
	if err := m.readLinks(ctx); err != nil {
		return Result{}, err
	}
	var root place
	for i, s := range m.sides {
		if s == nil {
			continue
		}
		e := s.Root()
		if !e.IsDir() {
			return Result{}, fmt.Errorf("%s is a %s, not a directory: %w", s.CID, e.Type, snapshot.ErrFormat)
		}
		root.at[i] = &node{Entry: e}
	}
	e, _, err := m.dir(ctx, root)
	if err != nil {
		return Result{}, err
	}
	for path := range m.drops {
		if !m.droppedAbove(path) {
			m.w.Drop(path)
		}
	}
	c, err := m.w.Commit(ctx, e)
	slices.SortFunc(m.conflicts, func(a, b Conflict) int { return strings.Compare(a.Path, b.Path) })
	return Result{Commit: c, Conflicts: m.conflicts, Changed: m.changed}, err
}

func (m *merger) droppedAbove(path string) bool {
	for dir := range above(path) {
		if m.drops[dir] {
			return true
		}
	}
	return false
}

// above yields the directories that a path is in, but for the root, the innermost first.
func above(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for end := strings.LastIndexByte(path, '/'); end > 0 && yield(path[:end]); {
			end = strings.LastIndexByte(path[:end], '/')
		}
	}
}

// drop takes the entry at a path of ours away, if there is one.
func (m *merger) drop(p place) {
	if p.at[ourSide] != nil {
		m.drops[p.path] = true
	}
}

func (m *merger) conflict(p place) {
	m.conflicts = append(m.conflicts, Conflict{
		Path: p.path, Ours: kindOf(p.at[baseSide], p.at[ourSide]), Theirs: kindOf(p.at[baseSide], p.at[theirSide]),
	})
}
