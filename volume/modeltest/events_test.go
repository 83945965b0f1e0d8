//go:build real

package modeltest_test

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/modeltest"
)

// events are what happens to the volume as a whole, by the kind of an operation.
func (r *rig) events() map[string]func(context.Context, modeltest.Op) error {
	return map[string]func(context.Context, modeltest.Op) error{
		"commit": r.commit, "look": r.look, "remount": r.remount, "restart": r.goOn, "rebase": r.rebase,
		"rollback": r.rollback, "clone": r.clone, "collect": r.clean, "kill": r.kill, "upgrade": r.upgrade, "lose": r.lose,
	}
}

func (r *rig) unmount(ctx context.Context) error {
	r.pair.Close()
	_, err := r.Do(ctx, &volume.Unmount{Name: name})
	return err
}

// remount mounts the same changes again, by a new server of the lower layer.
func (r *rig) remount(ctx context.Context, o modeltest.Op) error {
	if err := r.unmount(ctx); err != nil {
		return err
	}
	if err := r.reopen(ctx); err != nil {
		return err
	}
	if _, err := r.Do(ctx, &volume.Mount{Name: name}); err != nil {
		return err
	}
	return r.look(ctx, o)
}

// goOn ends the Manager and begins another, while the mount goes on and files are held open.
func (r *rig) goOn(ctx context.Context, o modeltest.Op) error { return r.restart(ctx) }

// kill has the daemon die in the middle of something, while the mount is worked in. Nothing waits for the next one.
func (r *rig) kill(ctx context.Context, o modeltest.Op) error {
	return r.host.(*daemon).interrupt(ctx, o, unix.SIGKILL)
}

// upgrade has the daemon end as it is told to, and another take over.
func (r *rig) upgrade(ctx context.Context, o modeltest.Op) error {
	return r.host.(*daemon).interrupt(ctx, o, unix.SIGTERM)
}

// rebase commits, and begins anew with that as the base.
func (r *rig) rebase(ctx context.Context, o modeltest.Op) error {
	if err := r.set(ctx, volume.CommitOnUnmount); err != nil {
		return err
	}
	if err := r.unmount(ctx); err != nil {
		return err
	}
	if err := r.set(ctx, volume.CommitManually); err != nil {
		return err
	}
	res, err := r.Do(ctx, &volume.Mount{Name: name})
	if err != nil {
		return err
	}
	if i := res.Volume; i.Base != i.Head {
		return fmt.Errorf("mounted on %s, not on the head %s", i.Base, i.Head)
	}
	r.pair.Tested = res.Path
	err = errors.Join(r.isPlain(ctx, res.Commit.Cid), r.look(ctx, o))
	r.committed(res.Commit.Cid)
	return err
}

func (r *rig) set(ctx context.Context, when string) error {
	_, err := r.Do(ctx, &volume.Set{Name: name, Options: map[string]string{"commit": when}})
	return err
}

// rollback goes back to one of the commits, on both sides. What was not committed is in a commit then.
func (r *rig) rollback(ctx context.Context, o modeltest.Op) error {
	if len(r.commits) == 0 {
		return nil
	}
	if err := r.unmount(ctx); err != nil {
		return err
	}
	to := r.commits[o.Seed%uint64(len(r.commits))]
	res, err := r.Do(ctx, &volume.Rollback{Name: name, To: to.String()})
	if err != nil {
		return err
	}
	before, err := r.Resolve(ctx, name+"@~1")
	if err != nil {
		return err
	}
	if err := r.isPlain(ctx, before); err != nil {
		return fmt.Errorf("what was committed before: %w", err)
	}
	if err := r.newPlain(ctx); err != nil {
		return err
	}
	r.committed(res.Commit.Cid)
	return r.look(ctx, o)
}

// clone makes a volume of the head and looks into it, read-only or not.
func (r *rig) clone(ctx context.Context, o modeltest.Op) error {
	if err := r.commit(ctx, o); err != nil {
		return err
	}
	if _, err := r.Do(ctx, &volume.Clone{Name: name, To: "clone"}); err != nil {
		return err
	}
	res, err := r.Do(ctx, &volume.Mount{Name: "clone", ReadOnly: o.Mode != 0})
	if err != nil {
		return err
	}
	err = r.looksLike(ctx, res.Path)
	_, removeErr := r.Do(ctx, &volume.Remove{Name: "clone", Force: true})
	return errors.Join(err, removeErr)
}

// lose has the daemon die and its database go with it. What was not committed is then in a snapshot, of which the
// volume is made again, or to which it goes if what it told others is left, which has its head.
func (r *rig) lose(ctx context.Context, o modeltest.Op) error {
	d := r.host.(*daemon)
	i, err := d.host.Volumes.Inspect(ctx, name)
	if err != nil {
		return err
	}
	r.pair.Close()
	alone := o.Mode == 0
	var also []string
	if alone {
		also = []string{"heads.db"}
	}
	from, err := d.lose(ctx, also...)
	if err != nil {
		return err
	}
	if !from.Defined() {
		from = i.Head.Cid // there was nothing else
	}
	if err := r.isPlain(ctx, from); err != nil {
		return fmt.Errorf("recovered: %w", err)
	}
	if alone {
		_, err = r.Do(ctx, &volume.Create{Name: name, From: from.String(), Options: i.Options})
	} else if _, err = r.Do(ctx, &volume.Set{Name: name, Options: i.Options}); err == nil && from != i.Head.Cid {
		_, err = r.Do(ctx, &volume.Rollback{Name: name, To: from.String()})
	}
	if err != nil {
		return err
	}
	res, err := r.Do(ctx, &volume.Mount{Name: name})
	if err != nil {
		return err
	}
	r.pair.Tested = res.Path
	return r.look(ctx, o)
}

// clean removes from the store what no volume needs, and looks whether what is to be kept is still whole.
func (r *rig) clean(ctx context.Context, o modeltest.Op) error {
	if err := r.collect(ctx); err != nil {
		return err
	}
	for _, c := range r.commits {
		s, err := tree.Open(ctx, r.blocks(), c)
		if err != nil {
			return err
		}
		if err := s.CheckSize(ctx, "", tree.Limits{}); err != nil {
			return err
		}
	}
	return nil
}
