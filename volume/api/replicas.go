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
// the cluster was told and as many peers as wanted hold the root; what ends it before says which peers lag and why, and
// wraps context.DeadlineExceeded if it is the timeout, or [pinset.ErrNotPinned] if the cluster is not to have the root.
// Recover has the peers try again what went wrong, and the host tell the cluster again what it could not. Waiting is
// what the cluster was not told yet, the oldest first.
type Replicas interface {
	Status(ctx context.Context, root cid.Cid) (pinset.Status, error)
	Wait(ctx context.Context, root cid.Cid, o WaitOptions) (pinset.Status, error)
	Recover(ctx context.Context, root cid.Cid) (pinset.Status, error)
	Waiting(ctx context.Context) ([]Waiting, error)
}

// WaitOptions say what is waited for. The zero value is useful.
type WaitOptions struct {
	Replicas int           // as many as the root needs at least if zero
	Timeout  time.Duration // DefaultWaitTimeout if zero
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

func (noReplicas) Wait(context.Context, cid.Cid, WaitOptions) (pinset.Status, error) {
	return pinset.Status{}, ErrNoCluster
}

func (noReplicas) Recover(context.Context, cid.Cid) (pinset.Status, error) {
	return pinset.Status{}, ErrNoCluster
}

func (noReplicas) Waiting(context.Context) ([]Waiting, error) { return nil, ErrNoCluster }

// NoReplicas returns the replicas of a host without a cluster.
func NoReplicas() Replicas { return noReplicas{} }
