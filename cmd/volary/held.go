package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/volume/api"
)

// held is how often the cluster holds what it is to keep, and what it was not told yet.
type held struct {
	roots  map[cid.Cid]pinset.Held
	queued map[cid.Cid]api.Waiting
}

// heldRoots asks for all replicas, in one go.
func heldRoots(ctx context.Context, host *api.Host) (held, error) {
	all, err := host.Replicas.Held(ctx)
	if err != nil {
		return held{}, err
	}
	h := held{roots: make(map[cid.Cid]pinset.Held, len(all))}
	for _, one := range all {
		h.roots[one.Root] = one
	}
	h.queued, err = queuedRoots(ctx, host)
	return h, err
}

func (h held) of(root cid.Cid) replicasJSON {
	one, is := h.roots[root]
	if !is {
		return newReplicasJSON(root, pinset.Status{State: pinset.Unpinned}, h.queued)
	}
	j := newReplicasJSON(root, pinset.Status{State: one.State, Min: one.Min, Max: one.Max}, h.queued)
	j.Have = one.Have
	return j
}

// column is the replicas of a root in a table: how many there are of how many at least.
func (j *replicasJSON) column() string {
	switch {
	case j == nil:
		return "?"
	case j.State != string(pinset.Pinning) && j.State != string(pinset.Pinned):
		return j.State
	case j.Min < 0:
		return fmt.Sprintf("%d/all", j.Have)
	}
	return fmt.Sprintf("%d/%d", j.Have, j.Min)
}

// heldForLines is what a listing shows of replicas. Where the cluster does not say in time, only what waits for it is
// known, and standard error says why.
func heldForLines(c *cli.Context, host *api.Host) (*held, error) {
	ctx, done := context.WithTimeoutCause(c.Context, statusTime, fmt.Errorf("no answer within %s", statusTime))
	defer done()
	h, err := heldRoots(ctx, host)
	if err == nil || errors.Is(err, api.ErrNoCluster) || c.Context.Err() != nil {
		return &h, err
	}
	fmt.Fprintf(c.App.ErrWriter, "replicas are not known: %v\n", err)
	queued, err := queuedRoots(c.Context, host)
	return &held{queued: queued}, err
}

// json is what of a root is put into an object, nil if nothing is known.
func (h *held) json(root cid.Cid) *replicasJSON {
	if h == nil {
		return nil
	}
	if _, waits := h.queued[root]; h.roots == nil && !waits {
		return nil
	}
	j := h.of(root)
	return &j
}
