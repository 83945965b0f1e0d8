package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/volary/volary/pinset"
)

// Remove takes a volume away. For the time its option trash says, [Undelete] brings it back.
type Remove struct {
	Name  string `json:"name"`
	Force bool   `json:"force,omitempty"` // also if it is mounted; here it is unmounted
	// Purge lets go of its states at once, so that it cannot be brought back; without a volume of that name, of those of
	// all that were removed and can be brought back by it.
	Purge bool `json:"purge,omitempty"`
}

func (op *Remove) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockToChange(ctx, op.Name)
	if op.Purge && errors.Is(err, ErrNotFound) {
		return op.purgeRemoved(ctx, m, err)
	}
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if len(r.Users) > 0 && !op.Force {
		return Result{}, mounted(r)
	}
	if err := m.refuseLeased(r); err != nil && !op.Force {
		return Result{}, fmt.Errorf("remove %s: %w", op.Name, err)
	}
	settled, err := m.settle(ctx, r, "before it was removed")
	if err != nil {
		return Result{}, fmt.Errorf("remove %s: %w", op.Name, err)
	}
	r.Users, r.Removed = nil, m.o.Now().UTC()
	if err := m.step(StepRemove); err != nil {
		return Result{}, err
	}
	if err := m.db.trash(r); err != nil {
		return Result{}, err
	}
	m.releaseLease(r)
	m.tell(ctx, r)
	res := Result{Removed: []string{r.Name}, Commit: r.Head, Note: firstCommitted(settled)}
	if op.Purge {
		res.Warning, err = m.purgeTold(ctx, r)
		if err != nil {
			err = fmt.Errorf("%s is removed, and can be brought back: let go of its states: %w", op.Name, err)
		}
	}
	return res, err
}

// purgeRemoved lets go of what was removed before; notFound is the error if there is none.
func (op *Remove) purgeRemoved(ctx context.Context, m *Manager, notFound error) (res Result, _ error) {
	unlock, err := m.acquire(ctx, op.Name)
	if err != nil {
		return res, err
	}
	defer unlock()
	rs, err := m.db.list(bucketTrash)
	if err != nil {
		return res, err
	}
	rs = slices.DeleteFunc(rs, func(r *record) bool { return r.Name != op.Name })
	if len(rs) == 0 {
		return res, notFound
	}
	for _, r := range rs {
		warning, err := m.purgeTold(ctx, r)
		if err != nil {
			return res, fmt.Errorf("let go of the states of %s: %w", op.Name, err)
		}
		res.Warning = cmp.Or(res.Warning, warning)
	}
	res.Removed = []string{op.Name}
	return res, nil
}

// purgeTold lets go of a removed volume's states once other hosts are told that it is: they would have it go on. It returns
// why it did not.
func (m *Manager) purgeTold(ctx context.Context, r *record) (kept string, _ error) {
	m.tell(ctx, r)
	if m.o.Heads != nil && r.shared() && !r.Told {
		return fmt.Sprintf("other hosts could not be told that %s is removed: its states are kept until its time is over", r.Name), nil
	}
	return m.forget(ctx, r)
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
	if err := m.checkFree(ctx, to, op.Name); err != nil {
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
		return Result{}, sentinel{fmt.Sprintf("%q was not removed, or is gone for good", op.Name), ErrNotFound}
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
	if err := m.db.restore(r); errors.Is(err, ErrExist) {
		return Result{}, fmt.Errorf("%w\n`volary volume undelete %s NEW` brings it back under another name", err, op.Name)
	} else if err != nil {
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
		o, err := r.options()
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
	_, err = m.forget(ctx, r)
	return err
}

// forget is purge with the lock of the volume's name. It returns why it did nothing, if others are to know the volume.
func (m *Manager) forget(ctx context.Context, r *record) (kept string, _ error) {
	if there, err := m.db.inTrash(r.ID); err != nil || !there {
		return "", err // it was taken back meanwhile
	}
	if _, back, err := m.broughtBack(ctx, r); err != nil {
		return "", err
	} else if back { // what keeps its states is not this host's alone to take away
		return fmt.Sprintf("another host brought %s back: its states are kept", r.Name), nil
	}
	needed, err := m.needed(r.ID)
	if err != nil {
		return "", err
	}
	err = m.eachPin(ctx, r, func(p pinset.Pin) error {
		if _, ok := needed[p.Root]; ok {
			return nil
		}
		return m.o.Pins.Remove(ctx, p.Root, p.Owner)
	})
	if err == nil {
		err = m.step(StepPurge)
	}
	if err != nil {
		return "", err
	}
	return "", m.db.purge(r.ID)
}

// Prune removes every volume that nobody has mounted, here or for writing on another host. One that cannot be removed
// hinders no other. Like others that are removed they can be taken back.
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
	var passed []string
	var errs []error
	for _, r := range rs {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		if len(r.Users) > 0 || len(op.Names) > 0 && !slices.Contains(op.Names, r.Name) {
			continue
		}
		err := m.refuseLeased(r)
		if err == nil && !op.DryRun {
			_, err = (&Remove{Name: r.Name}).run(ctx, m)
		}
		switch {
		case err == nil:
			res.Removed = append(res.Removed, r.Name)
		case errors.Is(err, ErrNotFound): // somebody else was faster
		case errors.Is(err, ErrLeased), errors.Is(err, ErrMounted):
			passed = append(passed, r.Name)
		default:
			errs = append(errs, err)
		}
	}
	if len(passed) > 0 {
		res.Note = "mounted meanwhile, or for writing on another host, and not removed: " + strings.Join(passed, ", ")
	}
	return res, errors.Join(errs...)
}

// Rename gives a volume another name.
type Rename struct {
	Name string `json:"name"`
	To   string `json:"to"`
}

func (op *Rename) run(ctx context.Context, m *Manager) (Result, error) {
	if err := m.checkFree(ctx, op.To, op.Name); err != nil {
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
	if op.To != op.Name && r.hasContainers() {
		return Result{}, fmt.Errorf("rename %s: %w", op.Name, mounted(r)) // their engine goes on to call it by its name
	}
	if op.To != op.Name {
		r.Renamed = r.shared()
		if err := m.db.rename(r, op.To); err != nil {
			return Result{}, err
		}
		if m.isTriedLater(op.Name) || m.isUncommitted(r) && len(r.Users) == 0 {
			m.tryLater(op.To) // who asked for its unmount does not know the name
		}
		m.tell(ctx, r)
	}
	return m.result(ctx, r)
}
