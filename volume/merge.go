package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/merge"
	"github.com/volary/volary/snapshot/tree"
)

// Merge makes a commit of a volume's head and its forks, which then are forks no more. Of each fork it takes what was
// changed since the newest state that the head also comes from. With conflicts it changes nothing, unless Take says what
// becomes of them: ours is the head, the same on every host. What was not committed is committed first. A volume that is
// mounted is not merged.
type Merge struct {
	Name    string            `json:"name"`
	Forks   []string          `json:"forks,omitempty"` // references; empty: all
	Take    merge.Take        `json:"take,omitempty"`
	NoBase  bool              `json:"no_base,omitempty"` // as if head and forks had nothing in common: what one removed comes back
	DryRun  bool              `json:"dry_run,omitempty"` // change nothing; what is not committed is left out
	Message string            `json:"message,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	NoWait  bool              `json:"no_wait,omitempty"` // for replicas, whatever the volume's options say
}

// Merged is what a merge did, or would do.
type Merged struct {
	Head      CID        `json:"head"` // what the forks were merged into
	Forks     []CID      `json:"forks"`
	Conflicts []Conflict `json:"conflicts"`
	Changed   uint64     `json:"changed"` // entries that are not as in the head, those below a directory not counted
}

// Conflict is a path that was changed in the head and in a fork, each in its own way.
type Conflict struct {
	Fork CID `json:"fork"`
	merge.Conflict
}

func (op *Merge) run(ctx context.Context, m *Manager) (Result, error) {
	if !slices.Contains([]merge.Take{merge.None, merge.Ours, merge.Theirs, merge.Both}, op.Take) {
		return Result{}, fmt.Errorf("take %q: %w", op.Take, ErrInvalid)
	}
	if err := checkLabels(op.Labels); err != nil {
		return Result{}, err
	}
	m.refresh(ctx)
	r, unlock, err := m.lockToChange(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	res, err := op.merge(ctx, m, r)
	if err != nil {
		return Result{}, fmt.Errorf("merge %s: %w", op.Name, err)
	}
	return res, nil
}

func (op *Merge) merge(ctx context.Context, m *Manager, r *record) (res Result, err error) {
	settled, err := op.prepare(ctx, m, r)
	if err != nil {
		return Result{}, err
	}
	forks, err := op.chosen(ctx, m, r)
	if err != nil {
		return Result{}, err
	}
	if len(forks) > 0 {
		if res, err = op.join(ctx, m, r, forks); err != nil {
			return Result{}, err
		}
	}
	was := res
	if res, err = m.result(ctx, r); err != nil {
		return Result{}, err
	}
	res.Merged, res.Created = was.Merged, was.Created
	res.Note = firstCommitted(settled)
	if len(forks) == 0 {
		res.Note = strings.TrimPrefix(res.Note+"\n"+r.Name+" has no forks", "\n")
	}
	return res, nil
}

// prepare brings the volume to its newest state, without changes of its own.
func (op *Merge) prepare(ctx context.Context, m *Manager, r *record) (settled Result, err error) {
	if op.DryRun {
		clean := *r
		clean.Overlay = nil
		newest, err := m.newest(ctx, &clean)
		if err == nil {
			*r = *newest
		}
		return Result{}, err
	}
	if len(r.Users) > 0 {
		return Result{}, mounted(r)
	}
	if settled, err = m.settle(ctx, r, "before a merge"); err != nil {
		return Result{}, fmt.Errorf("commit what is not committed: %w", err)
	}
	return settled, m.catchUp(ctx, r)
}

// chosen are the forks that are to be merged, the newest first.
func (op *Merge) chosen(ctx context.Context, m *Manager, r *record) ([]cid.Cid, error) {
	all, err := m.mergeable(ctx, r)
	if err != nil || len(op.Forks) == 0 {
		return all, err
	}
	var asked []cid.Cid
	for _, ref := range op.Forks {
		c, err := m.forkOf(ctx, r, ref)
		if err != nil {
			return nil, err
		}
		if c != r.Head.Cid && !slices.Contains(all, c) {
			if known, err := m.descends(ctx, r.Head.Cid, c); err == nil && known {
				continue // merged already
			}
			return nil, fmt.Errorf("%s is not a fork of it: %w\nsee `volary volume forks %s`", ref, ErrInvalid, r.Name)
		}
		asked = append(asked, c)
	}
	return slices.DeleteFunc(all, func(c cid.Cid) bool { return !slices.Contains(asked, c) }), nil
}

func (m *Manager) forkOf(ctx context.Context, r *record, ref string) (cid.Cid, error) {
	if c, err := cid.Decode(strings.TrimPrefix(ref, "/ipfs/")); err == nil {
		return c, nil
	}
	name, state, has := splitRef(ref)
	if !has || name != r.Name {
		return cid.Undef, fmt.Errorf("%q is not a state of %s: %w", ref, r.Name, ErrInvalid)
	}
	return m.state(ctx, r, state)
}

// mergeable are the states of a volume that its head does not come after. They are got, if need be.
func (m *Manager) mergeable(ctx context.Context, r *record) (forks []cid.Cid, _ error) {
	last, err := m.lastTold(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, s := range last.States {
		if s == r.Head.Cid {
			continue
		}
		base, err := snapshot.MergeBase(ctx, m.o.Blocks, r.Head.Cid, s)
		if err != nil {
			return nil, err
		}
		if base != s {
			forks = append(forks, s)
		}
	}
	return forks, nil
}

// join merges forks into the head, one after the other.
func (op *Merge) join(ctx context.Context, m *Manager, r *record, forks []cid.Cid) (Result, error) {
	s, err := m.o.Begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.Close()
	head, err := tree.Open(ctx, s, r.Head.Cid)
	if err != nil {
		return Result{}, err
	}
	parents, ours := []cid.Cid{r.Head.Cid}, head
	done := &Merged{Head: r.Head, Conflicts: []Conflict{}}
	for _, fork := range forks {
		if !op.DryRun {
			if err := m.keep(ctx, r, fork); err != nil {
				return Result{}, err
			}
		}
		next, err := op.one(ctx, s, ours, parents, fork)
		if err != nil {
			return Result{}, err
		}
		for _, c := range next.Conflicts {
			done.Conflicts = append(done.Conflicts, Conflict{CID{fork}, c})
		}
		done.Changed += next.Changed
		done.Forks, parents = append(done.Forks, CID{fork}), append(parents, fork)
		if ours, err = tree.OpenCommit(ctx, s, next.Commit); err != nil {
			return Result{}, err
		}
	}
	res := Result{Merged: done}
	if op.DryRun || len(done.Conflicts) > 0 && op.Take == merge.None {
		return res, nil
	}
	res.Created = true
	return res, op.record(ctx, m, s, r, head, ours.Commit, parents)
}

// one merges a fork into what the parents gave so far.
func (op *Merge) one(ctx context.Context, s Session, ours *tree.Snapshot, parents []cid.Cid, fork cid.Cid) (merge.Result, error) {
	theirs, err := tree.Open(ctx, s, fork)
	if err != nil {
		return merge.Result{}, err
	}
	var base *tree.Snapshot
	if !op.NoBase {
		if base, err = baseOf(ctx, s, parents, fork); err != nil {
			return merge.Result{}, err
		}
	}
	text := fork.String()
	return merge.Merge(ctx, s, base, ours, theirs, merge.Options{Take: op.Take, Suffix: ".fork-" + text[len(text)-forkSuffix:]})
}

// forkSuffix is how much of a fork's CID, from its end, is in the names of what is put beside other files.
const forkSuffix = 8

// baseOf is the newest state that a fork and one of the parents come from; nil if there is none.
func baseOf(ctx context.Context, s Session, parents []cid.Cid, fork cid.Cid) (*tree.Snapshot, error) {
	var newest *tree.Snapshot
	for _, p := range parents {
		c, err := snapshot.MergeBase(ctx, s, p, fork)
		if err != nil {
			return nil, err
		}
		if !c.Defined() || newest != nil && newest.CID == c {
			continue
		}
		t, err := tree.Open(ctx, s, c)
		if errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrUnavailable) {
			return nil, fmt.Errorf("what fork %s and the head come from cannot be had: %w\nwith --no-base they are merged as if they had nothing in common: then what one of them removed comes back", fork, err)
		}
		if err != nil {
			return nil, err
		}
		if newest == nil || t.Commit.Sequence > newest.Commit.Sequence {
			newest = t
		}
	}
	return newest, nil
}

// record makes the commit of what was merged, and the head of it.
func (op *Merge) record(ctx context.Context, m *Manager, s Session, r *record, head *tree.Snapshot, c *snapshot.Commit, parents []cid.Cid) error {
	c.Consistency, c.Message, c.Labels, c.Import = snapshot.Clean, op.Message, op.Labels, head.Commit.Import
	if c.Message == "" {
		c.Message = "merged"
		for _, fork := range parents[1:] {
			c.Message += " " + fork.String()
		}
	}
	own := true
	for _, p := range parents {
		is, err := m.o.Own.Own(ctx, p)
		if err != nil {
			return err
		}
		own = own && is
	}
	next, err := m.extend(ctx, s, r, c, own, parents...)
	if err != nil {
		return err
	}
	if err := m.step(StepHead); err != nil {
		return err
	}
	*r = *next
	if err := m.db.put(r); err != nil {
		return err
	}
	m.keepAwaited(r)
	m.tell(ctx, r)
	if err := m.letGo(ctx, r); err != nil {
		m.log.Warn("cannot let go of earlier commits", logVolume, r.Name, logError, err)
	}
	return nil
}
