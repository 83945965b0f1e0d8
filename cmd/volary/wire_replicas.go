package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

// replicas is what the cluster of a host and the queue before it tell.
type replicas struct{ *remote }

var _ api.Replicas = replicas{}

func (r replicas) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	return r.cluster.Status(ctx, root)
}

func (r replicas) Wait(ctx context.Context, root cid.Cid, o api.WaitOptions) (api.Waited, error) {
	ctx, done := context.WithTimeout(ctx, cmp.Or(o.Timeout, api.DefaultWaitTimeout))
	defer done()
	for {
		st, err := r.waitFor(ctx, root, o)
		if errors.Is(err, pinset.ErrNotPinned) {
			if newer := r.newer(ctx, root); newer.Defined() {
				root = newer
				continue
			}
		}
		if errors.Is(err, cluster.ErrTooMany) {
			err = fmt.Errorf("%w: %w", err, volume.ErrInvalid)
		}
		return api.Waited{Root: root, Status: st}, err
	}
}

// waitFor waits until the cluster was told of a root, and then for its peers.
func (r replicas) waitFor(ctx context.Context, root cid.Cid, o api.WaitOptions) (pinset.Status, error) {
	tell := func(st pinset.Status) {
		if o.Progress != nil {
			o.Progress(api.Waited{Root: root, Status: st})
		}
	}
	tell(pinset.Status{State: pinset.Unpinned})
	for _, w := range r.outbox.Waiting() {
		if !w.Pin.Root.Equals(root) {
			continue
		}
		if st, err := r.outbox.Wait(ctx, root, w.Pin.Owner); err != nil {
			return st, err
		}
	}
	return r.cluster.Wait(ctx, root, cluster.WaitOptions{Goal: cluster.Min, Replicas: o.Replicas, Progress: tell})
}

// newer is the newest state that comes after a root in a volume of which the root is one that is kept here, undefined if
// none is known to. It took the root's place in the queue, if the cluster was never told of the root.
func (r replicas) newer(ctx context.Context, root cid.Cid) cid.Cid {
	if r.heads == nil {
		return cid.Undef
	}
	of, err := r.kept.Status(ctx, root)
	if err != nil {
		return cid.Undef
	}
	for _, p := range of.Pins {
		id, is := strings.CutPrefix(p.Owner, volume.PinOwner)
		if !is {
			continue
		}
		if newer, err := r.heads.Newer(ctx, id, root); err == nil && newer.Defined() {
			return newer
		}
	}
	return cid.Undef
}

func (r replicas) Held(ctx context.Context) ([]pinset.Held, error) { return r.cluster.Held(ctx) }

// replicate is a [volume.Replicator]. It ends with the process.
func (r *remote) replicate(ctx context.Context, commit cid.Cid) error {
	ctx, done := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-r.ends:
			done(errEnding)
		case <-ctx.Done():
		}
	}()
	defer done(nil)
	_, err := replicas{r}.Wait(ctx, commit, api.WaitOptions{Timeout: noTimeout})
	return err
}

var errEnding = errors.New("the daemon ends")

// noTimeout is longer than anybody waits who has a timeout of his own.
const noTimeout = 365 * 24 * time.Hour

func (r replicas) Recover(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	r.outbox.Retry()
	return r.cluster.Recover(ctx, root)
}

func (r replicas) Waiting(context.Context) ([]api.Waiting, error) {
	var all []api.Waiting
	for _, w := range r.outbox.Waiting() {
		next := w.Next
		if w.Sending {
			next = time.Time{}
		}
		all = append(all, api.Waiting{
			Op: string(w.Op), Root: w.Pin.Root, Owner: w.Pin.Owner, Since: w.Since, Attempts: w.Attempts, Error: w.Error, Next: next,
		})
	}
	return all, nil
}
