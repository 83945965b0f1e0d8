package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/volary/volary/volume"
)

// done is the answer of a call that has nothing to say.
type done struct{}

// described is a volume as the engine knows it.
type described struct {
	Name       string
	Mountpoint string         `json:",omitempty"`
	CreatedAt  string         `json:",omitempty"`
	Status     map[string]any `json:",omitempty"`
}

// activate is what an engine calls first, once, unless the driver is a managed plugin.
func (d *Driver) activate(context.Context, request) (answer, error) {
	return map[string][]string{"Implements": {"VolumeDriver"}}, nil
}

func (d *Driver) capabilities(context.Context, request) (answer, error) {
	scope := "local"
	if d.o.Global {
		scope = "global"
	}
	return map[string]any{"Capabilities": map[string]string{"Scope": scope}}, nil
}

// do runs an operation that an engine asks for, and records it as the daemon's API does what commands ask for.
func (d *Driver) do(ctx context.Context, op volume.Operation, name, engine string, more ...any) (volume.Result, error) {
	res, err := d.o.Volumes.Do(ctx, op)
	if err == nil {
		pid, _, _ := strings.Cut(engine, "-")
		d.o.Logger.Info("volume "+volume.OperationName(op), append([]any{logName, name, logRoot, res.Commit, logPID, pid}, more...)...)
	}
	return res, err
}

// create makes a volume. One that is there as it is asked for was made by a call whose answer the engine did not get.
func (d *Driver) create(ctx context.Context, req request) (answer, error) {
	op, err := createOf(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.o.MountTime)
	defer cancel()
	if op.From != "" && d.o.Resolve != nil {
		if op.From, err = d.o.Resolve(ctx, op.From); err != nil {
			return nil, fmt.Errorf("option from=%s: %w", req.Opts[optionFrom], err)
		}
	}
	_, err = d.do(ctx, op, op.Name, engineOf(ctx))
	if errors.Is(err, volume.ErrExist) || errors.Is(err, volume.ErrTaken) {
		return done{}, d.same(ctx, op, err)
	}
	return done{}, err
}

func (d *Driver) get(ctx context.Context, req request) (answer, error) {
	i, err := d.o.Volumes.Describe(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	v := describe(i)
	v.Status = d.status(i)
	return map[string]described{"Volume": v}, nil
}

func (d *Driver) list(ctx context.Context, _ request) (answer, error) {
	infos, err := d.o.Volumes.List(ctx, volume.ListOptions{Known: true})
	if err != nil {
		return nil, err
	}
	all := make([]described, len(infos))
	for i := range infos {
		all[i] = describe(&infos[i])
	}
	return map[string][]described{"Volumes": all}, nil
}

func (d *Driver) path(ctx context.Context, req request) (answer, error) {
	i, err := d.o.Volumes.Describe(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	return map[string]string{"Mountpoint": i.Mountpoint}, nil
}

// mostID is how long a mount's ID is at most, in bytes. Those of engines have 64.
const mostID = 1024

func (d *Driver) mount(ctx context.Context, req request) (answer, error) {
	if req.ID == "" {
		return nil, errors.New("the engine does not say for which mount")
	}
	if len(req.ID) > mostID {
		return nil, fmt.Errorf("a mount's ID of %d bytes, at most %d are allowed", len(req.ID), mostID)
	}
	limited, cancel := context.WithTimeout(ctx, d.o.MountTime)
	defer cancel()
	op := &volume.Mount{Name: req.Name, User: volume.ContainerUser + req.ID, By: engineOf(ctx)}
	overtaken := d.overtake(op)
	res, err := d.do(limited, op, op.Name, op.By, logUser, op.User)
	if err != nil {
		for _, l := range overtaken {
			d.leaveLater(ctx, l)
		}
		if limited.Err() != nil {
			d.settle(ctx, op.Name) // it may be mounted, for nobody: the engine does not unmount what it was not told of
		}
		return nil, err
	}
	return map[string]string{"Mountpoint": res.Path}, nil
}

func (d *Driver) remove(ctx context.Context, req request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.UnmountTime)
	defer cancel()
	_, err := d.do(ctx, &volume.Remove{Name: req.Name}, req.Name, engineOf(ctx))
	if errors.Is(err, volume.ErrNotFound) {
		return nil, fmt.Errorf("%w\nthe engine may forget it: docker volume rm -f", err)
	}
	return done{}, err
}

func describe(i *volume.Info) described {
	v := described{Name: i.Name, Mountpoint: i.Mountpoint}
	if made := i.Created; !made.IsZero() {
		v.CreatedAt = made.Format(time.RFC3339)
	} else if !i.Time.IsZero() {
		v.CreatedAt = i.Time.Format(time.RFC3339)
	}
	return v
}
