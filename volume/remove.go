package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/volary/volary/pinset"
)

// Remove takes a volume away. For the time its option trash says, [Undelete] brings it back.
type Remove struct {
	Name  string `json:"name"`
	Force bool   `json:"force,omitempty"` // also if it is mounted; here it is unmounted
}

func (op *Remove) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockToChange(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if len(r.Users) > 0 && !op.Force {
		return Result{}, mounted(r)
	}
	if l := m.lease(r); l != nil && !l.Here && !op.Force {
		return Result{}, fmt.Errorf("remove %s: %w: %s\nunmount it there first", op.Name, ErrLeased, l.name())
	}
	settled, err := m.settle(ctx, r, "before it was removed")
	if err != nil {
		return Result{}, fmt.Errorf("remove %s: %w", op.Name, err)
	}
	r.Users, r.Removed = nil, m.o.Now().UTC()
	if err := m.db.trash(r); err != nil {
		return Result{}, err
	}
	m.releaseLease(r)
	m.tell(ctx, r)
	return Result{Removed: []string{r.Name}, Commit: r.Head, Note: firstCommitted(settled)}, nil
}

// Undelete brings a removed volume back, the one that was removed last if there are several of a name.
type Undelete struct {
	Name string `json:"name"`
	As   string `json:"as,omitempty"` // another name for it
}

func (op *Undelete) run(ctx context.Context, m *Manager) (Result, error) {
	to := op.As
	if to == "" {
		to = op.Name
	}
	if err := m.checkFree(ctx, to); err != nil {
		return Result{}, err
	}
	unlock, err := m.lock(ctx, op.Name, to)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	rs, err := m.db.list(bucketTrash)
	if err != nil {
		return Result{}, err
	}
	rs = slices.DeleteFunc(rs, func(r *record) bool { return r.Name != op.Name })
	if len(rs) == 0 {
		return Result{}, fmt.Errorf("%q was not removed, or is gone for good: %w", op.Name, ErrNotFound)
	}
	r := slices.MaxFunc(rs, func(a, b *record) int { return a.Removed.Compare(b.Removed) })
	if err := m.beforeEnd(ctx, r); err != nil {
		return Result{}, fmt.Errorf("undelete %s: %w", op.Name, err)
	}
	r.Renamed, r.Revived, r.Told = r.shared() && to != op.Name, r.shared(), false
	r.Name, r.Removed = to, time.Time{}
	// Letting go of it may have begun, and stopped.
	if err := m.keep(ctx, r, r.Head.Cid); err != nil {
		return Result{}, fmt.Errorf("undelete %s: %w", op.Name, err)
	}
	if err := m.revive(ctx, r); err != nil {
		return Result{}, fmt.Errorf("bring %s back: %w", op.Name, err)
	}
	if err := m.db.restore(r); err != nil {
		return Result{}, err
	}
	m.tell(ctx, r)
	return m.result(ctx, r)
}

// emptyTrash lets go of what was removed long enough ago. What goes wrong with one volume is logged, and hinders no
// other.
func (m *Manager) emptyTrash(ctx context.Context) {
	rs, err := m.db.list(bucketTrash)
	if err != nil {
		m.log.Error("empty the trash", logError, err)
		return
	}
	for _, r := range rs {
		o, err := ParseOptions(r.Options)
		if err == nil && m.o.Now().Sub(r.Removed) >= o.Trash {
			err = m.purge(ctx, r)
		}
		if err != nil {
			m.log.Error("empty the trash", logVolume, r.Name, logError, err)
		}
	}
}

// purge unpins all states of a removed volume and forgets it.
func (m *Manager) purge(ctx context.Context, r *record) error {
	unlock, err := m.acquire(ctx, r.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := m.db.inTrash(r.ID); err != nil || !there {
		return err // it was taken back meanwhile
	}
	if _, back, err := m.broughtBack(ctx, r); err != nil || back {
		return err // what keeps its states is not this host's alone to take away
	}
	needed, err := m.needed(r.ID)
	if err != nil {
		return err
	}
	err = m.eachPin(ctx, r, func(p pinset.Pin) error {
		if _, ok := needed[p.Root]; ok {
			return nil
		}
		return m.o.Pins.Remove(ctx, p.Root, p.Owner)
	})
	if err != nil {
		return err
	}
	return m.db.purge(r.ID)
}

// Prune removes every volume that nobody has mounted. Like others that are removed they can be taken back.
type Prune struct {
	Names  []string `json:"names,omitempty"` // of these only those; empty: all
	DryRun bool     `json:"dry_run,omitempty"`
}

func (op *Prune) run(ctx context.Context, m *Manager) (Result, error) {
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		return Result{}, err
	}
	var res Result
	for _, r := range rs {
		if len(r.Users) > 0 || len(op.Names) > 0 && !slices.Contains(op.Names, r.Name) {
			continue
		}
		if !op.DryRun {
			_, err := (&Remove{Name: r.Name}).run(ctx, m)
			if errors.Is(err, ErrNotFound) {
				continue // somebody else was faster
			}
			if err != nil {
				return res, err
			}
		}
		res.Removed = append(res.Removed, r.Name)
	}
	return res, nil
}

// Rename gives a volume another name.
type Rename struct {
	Name string `json:"name"`
	To   string `json:"to"`
}

func (op *Rename) run(ctx context.Context, m *Manager) (Result, error) {
	if err := m.checkFree(ctx, op.To); err != nil {
		return Result{}, err
	}
	if err := m.hear(ctx, op.Name); err != nil {
		return Result{}, err
	}
	unlock, err := m.lock(ctx, op.Name, op.To)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	r, err := m.found(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	if err := m.mayChange(r); err != nil {
		return Result{}, fmt.Errorf("rename %s: %w", op.Name, err)
	}
	if op.To != op.Name {
		r.Renamed = r.shared()
		if err := m.db.rename(r, op.To); err != nil {
			return Result{}, err
		}
		m.tell(ctx, r)
	}
	return m.result(ctx, r)
}
