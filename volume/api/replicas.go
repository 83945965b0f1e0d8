package api

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/volume"
)

// DefaultWaitTimeout is how long a wait for replicas lasts if nothing else is said.
const DefaultWaitTimeout = 2 * time.Minute

// ErrNoCluster says that no cluster replicates what the host keeps.
var ErrNoCluster = volume.ErrNoCluster

// Replicas tells how far the cluster has got that replicates what a host keeps. Without a cluster all methods return
// an error that wraps [ErrNoCluster].
//
// Status is what the cluster says of a root: [pinset.Unpinned] if it was not told of it, or not yet. Wait returns once
// the cluster was told and as many peers as wanted hold the root, or the newer state of its volume that took its place
// before the cluster was told; what ends it before says which peers lag and why, and
// wraps context.DeadlineExceeded if it is the timeout, or [pinset.ErrNotPinned] if the cluster is not to have the root.
// Recover has the peers try again what went wrong, and the host tell the cluster again what it could not. Held is how
// often all that the cluster is to keep is held, in no order, at the cost of one request whatever their number. Waiting
// is what the cluster was not told yet, the oldest first.
type Replicas interface {
	Status(ctx context.Context, root cid.Cid) (pinset.Status, error)
	Wait(ctx context.Context, root cid.Cid, o WaitOptions) (Waited, error)
	Recover(ctx context.Context, root cid.Cid) (pinset.Status, error)
	Held(ctx context.Context) ([]pinset.Held, error)
	Waiting(ctx context.Context) ([]Waiting, error)
}

// WaitOptions say what is waited for. The zero value is useful.
type WaitOptions struct {
	Replicas int           // as many as the root needs at least if zero
	Timeout  time.Duration // DefaultWaitTimeout if zero
	Progress func(Waited)  // nil, or called from the waiting goroutine whenever something has changed
}

// Waited is how far a wait has come.
type Waited struct {
	Root          cid.Cid // what is waited for
	pinset.Status         // pinset.Unpinned while the cluster was not told of it
}

// Waiting is a pin or an unpin that the cluster was not told yet.
type Waiting struct {
	Op       string // "pin" or "unpin"
	Root     cid.Cid
	Owner    string
	Since    time.Time
	Attempts int // that failed
	Error    string
	Next     time.Time // attempt; zero while one is made
}

// noReplicas is the replicas of a host without a cluster.
type noReplicas struct{}

var _ Replicas = noReplicas{}

func (noReplicas) Status(context.Context, cid.Cid) (pinset.Status, error) {
	return pinset.Status{}, ErrNoCluster
}

func (noReplicas) Wait(context.Context, cid.Cid, WaitOptions) (Waited, error) {
	return Waited{}, ErrNoCluster
}

func (noReplicas) Recover(context.Context, cid.Cid) (pinset.Status, error) {
	return pinset.Status{}, ErrNoCluster
}

func (noReplicas) Held(context.Context) ([]pinset.Held, error) { return nil, ErrNoCluster }

func (noReplicas) Waiting(context.Context) ([]Waiting, error) { return nil, ErrNoCluster }

// NoReplicas returns the replicas of a host without a cluster.
func NoReplicas() Replicas { return noReplicas{} }
