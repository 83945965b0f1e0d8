package docker

import (
	"context"
	"errors"
	"time"

	"github.com/volary/volary/volume"
)

// unmount goes on when the engine does not wait any more: it does not ask again. That the container is gone is recorded
// before that is waited for which is being done to the volume, so that also another process goes on.
func (d *Driver) unmount(ctx context.Context, req request) (answer, error) {
	if req.ID == "" {
		return nil, errors.New("the engine does not say which mount")
	}
	l := &ending{name: req.Name, user: volume.ContainerUser + req.ID, by: engineOf(ctx)}
	stays, err := d.leave(l)
	if err != nil {
		d.leaveLater(ctx, l)
		return nil, err
	}
	if stays {
		return done{}, nil
	}
	return done{}, d.release(ctx, l)
}

// leave records the end of a mount, and reports whether its volume stays mounted for its user, or is gone, as another host
// may have removed it.
func (d *Driver) leave(l *ending) (stays bool, _ error) {
	stays, err := d.o.Volumes.Leave(l.name, l.user, l.by)
	if errors.Is(err, volume.ErrNotFound) {
		return true, nil
	}
	return stays, err
}

// release unmounts a volume of which somebody was recorded to be gone. The commit goes on when it takes longer than an
// engine waits.
func (d *Driver) release(ctx context.Context, l *ending) error {
	noWait := d.fresh(ctx, l.name)
	ended, answered := make(chan error), make(chan struct{})
	defer close(answered)
	if !d.goOn(ctx, func(ctx context.Context) {
		err := d.end(ctx, l, noWait)
		select {
		case ended <- err:
		case <-answered:
			d.logUnmount(l.name, err)
		}
	}) {
		return nil
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(d.o.UnmountTime):
		d.o.Logger.Warn("a volume is unmounted, and its changes are still being committed", logVolume, l.name)
		return nil
	}
}

// end unmounts a volume of which somebody was recorded to be gone.
func (d *Driver) end(ctx context.Context, l *ending, noWait bool) error {
	res, err := d.do(ctx, &volume.Unmount{Name: l.name, Gone: true, NoWait: noWait}, l.name, l.by, logUser, l.user)
	if res.Warning != "" {
		d.o.Logger.Warn("a volume is unmounted", logVolume, l.name, logWarning, res.Warning)
	}
	return remains(ctx, err)
}

// remains is the error of an unmount, unless it is for the next process to do, or the volume was removed meanwhile.
func remains(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, volume.ErrNotFound) {
		return nil
	}
	return err
}

func (d *Driver) logUnmount(name string, err error) {
	if err != nil {
		d.o.Logger.Warn("a volume that nobody has mounted is not unmounted", logVolume, name, logError, err)
	}
}

// settle unmounts a volume in the background if nobody has it mounted.
func (d *Driver) settle(ctx context.Context, name string) {
	d.goOn(ctx, func(ctx context.Context) {
		_, err := d.o.Volumes.Do(ctx, &volume.Unmount{Name: name, Gone: true, NoWait: true})
		d.logUnmount(name, remains(ctx, err))
	})
}

// fresh reports whether nothing was committed in a volume yet. What an image has is copied into it between two mounts, and
// who waits for a container to be made is not to wait for replicas of that: the volume is kept from other hosts until there
// are enough of them.
func (d *Driver) fresh(ctx context.Context, name string) bool {
	i, err := d.o.Volumes.Describe(ctx, name)
	return err == nil && i.Sequence <= 1
}

// ending is the end of a mount that an engine told of. It does not tell again if that could not be recorded.
type ending struct {
	name, user, by string
}

// leaveLater records the end of a mount as soon as that goes well, unless another process of an engine makes the mount
// anew.
func (d *Driver) leaveLater(ctx context.Context, l *ending) {
	d.mu.Lock()
	d.late[l] = struct{}{}
	d.mu.Unlock()
	d.goOn(ctx, func(ctx context.Context) {
		tick := time.NewTicker(d.o.Again)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			stays, err := d.leaveLate(l)
			if err != nil {
				d.o.Logger.Debug("still not recorded that a mount is over", logVolume, l.name, logError, err)
				continue
			}
			if !stays {
				d.logUnmount(l.name, d.end(ctx, l, false))
			}
			return
		}
	})
}

// leaveLate holds up who mounts: what is recorded after it was overtaken would end another mount.
func (d *Driver) leaveLate(l *ending) (stays bool, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, waits := d.late[l]; !waits {
		return true, nil
	}
	stays, err := d.leave(l)
	if err == nil {
		delete(d.late, l)
	}
	return stays, err
}

// overtake takes those ends of mounts for void, and returns them, that another process of an engine told of than the one
// that mounts for the same user now.
func (d *Driver) overtake(op *volume.Mount) (overtaken []*ending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.late {
		if l.name == op.Name && l.user == op.User && l.by != op.By {
			delete(d.late, l)
			overtaken = append(overtaken, l)
		}
	}
	return overtaken
}
