package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/volume/api"
)

// replicas is what the cluster of a host and the queue before it tell.
type replicas struct{ *remote }

var _ api.Replicas = replicas{}

func (r replicas) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	return r.cluster.Status(ctx, root)
}

func (r replicas) Wait(ctx context.Context, root cid.Cid, o api.WaitOptions) (pinset.Status, error) {
	ctx, done := context.WithTimeout(ctx, cmp.Or(o.Timeout, api.DefaultWaitTimeout))
	defer done()
	for _, w := range r.outbox.Waiting() {
		if !w.Pin.Root.Equals(root) {
			continue
		}
		if st, err := r.outbox.Wait(ctx, root, w.Pin.Owner); err != nil {
			return st, err
		}
	}
	return r.cluster.Wait(ctx, root, cluster.WaitOptions{Goal: cluster.Min, Replicas: o.Replicas})
}

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
