package volume

import (
	"context"
	"fmt"
	"iter"
	"maps"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
)

// history yields a commit and its ancestors, the newest first.
func (m *Manager) history(ctx context.Context, head cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
	return func(yield func(snapshot.Ancestor, error) bool) {
		t, err := tree.Open(ctx, m.o.Blocks, head)
		if err != nil {
			yield(snapshot.Ancestor{}, err)
			return
		}
		if !yield(snapshot.Ancestor{CID: head, Sequence: t.Commit.Sequence, Time: t.Commit.Time}, nil) {
			return
		}
		for a, err := range snapshot.History(ctx, m.o.Blocks, t.Commit) {
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// Rollback makes the state of an earlier snapshot, or of any other, the newest one. What was not committed is
// committed first. A volume that is mounted is not rolled back.
type Rollback struct {
	Name    string `json:"name"`
	To      string `json:"to"` // a reference, or what stands after the @ of one
	Message string `json:"message,omitempty"`
	NoWait  bool   `json:"no_wait,omitempty"` // for replicas, whatever the volume's options say
}

func (op *Rollback) run(ctx context.Context, m *Manager) (Result, error) {
	m.refresh(ctx)
	r, unlock, err := m.lockToChange(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if len(r.Users) > 0 {
		return Result{}, mounted(r)
	}
	if err := m.refuseLeased(r); err != nil {
		return Result{}, fmt.Errorf("roll back %s: %w", op.Name, err)
	}
	if err := m.catchUp(ctx, r); err != nil {
		return Result{}, fmt.Errorf("roll back %s from its newest state: %w", op.Name, err)
	}
	to, err := m.rollbackTarget(ctx, r, op.To)
	if err != nil {
		return Result{}, err
	}
	settled, err := m.settle(ctx, r, "before the rollback to "+to.String())
	if err != nil {
		return Result{}, fmt.Errorf("commit %s before the rollback: %w", op.Name, err)
	}
	if err := m.rollback(ctx, r, to, op.Message); err != nil {
		return Result{}, fmt.Errorf("roll back %s: %w", op.Name, err)
	}
	res, err := m.result(ctx, r)
	res.Created, res.Note = true, firstCommitted(settled)
	return res, err
}

func (m *Manager) rollbackTarget(ctx context.Context, r *record, to string) (cid.Cid, error) {
	if c, err := m.state(ctx, r, to); err == nil {
		return c, nil
	}
	return m.Resolve(ctx, to)
}

func (m *Manager) rollback(ctx context.Context, r *record, to cid.Cid, message string) error {
	s, err := m.o.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	c, _, err := over(ctx, s, to)
	if err != nil {
		return err
	}
	if c.Message = message; message == "" {
		c.Message = "rolled back to " + to.String()
	}
	own, err := m.o.Own.Own(ctx, to)
	if err != nil {
		return err
	}
	next, err := m.extend(ctx, s, r, c, own, r.Head.Cid)
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
	return nil
}

// Tag gives a state of a volume a name, VOLUME@TAG, or takes the name away.
type Tag struct {
	Name   string `json:"name"`
	Tag    string `json:"tag"`
	State  string `json:"state,omitempty"` // what stands after the @; empty: the head
	Delete bool   `json:"delete,omitempty"`
}

func (op *Tag) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if err := checkTag(op.Tag); err != nil {
		return Result{}, err
	}
	tags := maps.Clone(r.Tags)
	if tags == nil {
		tags = map[string]CID{}
	}
	was, had := tags[op.Tag]
	if op.Delete && !had {
		return Result{}, sentinel{fmt.Sprintf("%s has no tag %q\n`volary volume inspect %s` lists them", op.Name, op.Tag, op.Name), ErrNotFound}
	}
	target := r.Head
	if op.State != "" {
		if target.Cid, err = m.state(ctx, r, op.State); err != nil {
			return Result{}, err
		}
	}
	if tags[op.Tag] = target; op.Delete {
		delete(tags, op.Tag)
	} else if err := m.keep(ctx, r, target.Cid); err != nil {
		return Result{}, fmt.Errorf("tag %s: %w", op.Tag, err)
	}
	r.Tags = tags
	if err := m.db.put(r); err != nil {
		return Result{}, err
	}
	res, err := m.result(ctx, r)
	if res.Previous = was; had && (op.Delete || was != target) {
		res.Note = fmt.Sprintf("%s@%s was %s", op.Name, op.Tag, was)
	}
	return res, err
}

// checkTag refuses tags that would be taken for something else after an @.
func checkTag(tag string) error {
	if err := CheckName(tag); err != nil || tag[0] == '~' || tag[0] >= '0' && tag[0] <= '9' {
		return fmt.Errorf("tag %q: %w\na tag is a name that does not begin with a digit, '~', '.' or '-'", tag, ErrInvalid)
	}
	return nil
}

// keep pins a state of a volume that may not be kept any more. All of it must still be there.
func (m *Manager) keep(ctx context.Context, r *record, root cid.Cid) error {
	status, err := m.o.Pins.Status(ctx, root)
	if _, pinned := status.Of(pinOwner(r)); pinned || err != nil {
		return err
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if status.State == pinset.Unpinned {
		if err := allThere(ctx, s, root); err != nil {
			return err
		}
	}
	t, err := tree.Open(ctx, s, root)
	if err != nil {
		return err
	}
	at := *r
	at.Head, at.Sequence = CID{root}, t.Commit.Sequence
	return m.o.Pins.Add(ctx, pinOf(&at, t.Commit.Time))
}

// allThere wants all of a snapshot to be there.
func allThere(ctx context.Context, s Session, root cid.Cid) error {
	return snapshot.WalkDAG(ctx, s, []cid.Cid{root}, func(c cid.Cid, _ blocks.Block, err error) error {
		if err != nil {
			return fmt.Errorf("%s is not kept any more, and not whole: %w", root, err)
		}
		return nil
	})
}
