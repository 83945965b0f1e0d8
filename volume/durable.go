package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
)

// ErrNoCluster says that no cluster replicates what the host keeps.
var ErrNoCluster = errors.New("no cluster is configured")

// What a commit that was acknowledged means.
const (
	DurabilityLocal   = "local"   // it is durable on this host
	DurabilityCluster = "cluster" // and as many peers of the cluster hold it as are to, at least
)

// DefaultDurabilityTimeout is how long a commit waits for replicas.
const DefaultDurabilityTimeout = 2 * time.Minute

// Replicator returns once as many peers of the cluster hold a commit as are to at least. The error says which of them
// lag, and why.
type Replicator func(ctx context.Context, commit cid.Cid) error

// checkDurability refuses what cannot be promised.
func (m *Manager) checkDurability(ctx context.Context, o VolumeOptions) error {
	switch {
	case m.o.Replicate != nil && m.o.CanReplicate != nil && o.Replicas != Replicas{}:
		if err := m.o.CanReplicate(ctx, o.Replicas); err != nil {
			return fmt.Errorf("option %s: %w", optionReplicas, err)
		}
	case m.o.Replicate != nil:
	case o.Durability == DurabilityCluster:
		return fmt.Errorf("option durability=%s: %w", o.Durability, ErrNoCluster)
	case o.Replicas != Replicas{}:
		return fmt.Errorf("option %s: %w", optionReplicas, ErrNoCluster)
	}
	return nil
}

// acknowledge waits until an operation's commit is replicated, where the volume's options say that only then it is
// done. The commit stands in any case.
func (m *Manager) acknowledge(ctx context.Context, op Operation, res *Result) {
	i := res.Volume
	if i == nil || noWait(op) || !WaitsForReplicas(op, *res) {
		return
	}
	r := &record{ID: i.ID, Name: i.Name, Head: res.Commit}
	o, err := ParseOptions(i.Options)
	if err == nil {
		err = m.replicated(ctx, r, o)
	}
	if _, is := op.(*Commit); err == nil && !is && o.Durability == DurabilityCluster {
		m.waited(ctx, r)
	}
	if err == nil {
		return
	}
	res.Lagging = true
	if res.Warning != "" {
		res.Warning += "; "
	}
	res.Warning += fmt.Sprintf("the commit stands, but too few peers hold it: %v", err)
}

// WaitsForReplicas reports whether an operation is done only once its commit is replicated as the volume's option
// durability says.
func WaitsForReplicas(op Operation, res Result) bool {
	switch op.(type) {
	case *Commit, *Rollback:
		return true
	case *Unmount, *Merge:
		return res.Created
	}
	return false
}

// noWait reports whether who asked for an operation waits for replicas himself, or not at all.
func noWait(op Operation) bool {
	switch op := op.(type) {
	case *Commit:
		return op.NoWait
	case *Rollback:
		return op.NoWait
	case *Merge:
		return op.NoWait
	case *Unmount:
		return op.NoWait
	}
	return false
}

// replicated waits until the head is held as the volume's options say.
func (m *Manager) replicated(ctx context.Context, r *record, o VolumeOptions) error {
	if o.Durability != DurabilityCluster {
		return nil
	}
	if m.o.Replicate == nil {
		return ErrNoCluster
	}
	limited, done := context.WithTimeout(ctx, o.DurabilityTimeout)
	defer done()
	err := m.o.Replicate(limited, r.Head.Cid)
	if err == nil {
		m.wentWell(r, FailedReplicas)
	}
	return err
}

// awaits reports whether the head is a commit whose replicas have to be waited for.
func (m *Manager) awaits(r *record) bool {
	if m.o.Replicate == nil || !r.Awaited.Defined() || r.Awaited != r.Head || !r.Removed.IsZero() {
		return false
	}
	o, err := r.options()
	return err == nil && o.Durability == DurabilityCluster
}

// replicateFew is how many volumes' replicas are waited for at a time.
const replicateFew = 64

// replicate waits for the replicas of a volume's head, if they were not yet, for as long as its options say. That there
// are too few is the volume's failure.
func (m *Manager) replicate(ctx context.Context, id string) {
	r, err := m.db.ofID(id)
	if err != nil || r == nil || ctx.Err() != nil {
		return
	}
	if m.awaits(r) {
		o, err := r.options()
		if err == nil {
			err = m.replicated(ctx, r, o)
		}
		if err != nil && ctx.Err() == nil {
			if f := m.failure(r); f == nil || f.What != FailedReplicas {
				m.log.Warn("a commit is not replicated", logVolume, r.Name, logError, err)
			}
			m.failed(r, FailedReplicas, err)
		}
		if err != nil {
			return
		}
	}
	m.waited(ctx, r)
}

// waited records that the replicas of a volume's head, as it was, need not be waited for any more, and gives its lease up
// that was kept for them. What fails is done later by Run.
func (m *Manager) waited(ctx context.Context, was *record) {
	if err := m.recordWaited(ctx, was); err != nil && ctx.Err() == nil {
		m.log.Error("record that a commit is replicated", logVolume, was.Name, logError, err)
	}
}

func (m *Manager) recordWaited(ctx context.Context, was *record) error {
	unlock, err := m.acquire(ctx, was.Name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := m.db.get(was.Name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || r.ID != was.ID || !r.Awaited.Defined() || m.awaits(r) && r.Head != was.Head {
		return err
	}
	if err := m.step(StepAwaited); err != nil {
		return err
	}
	r.Awaited = CID{}
	if err := m.db.put(r); err != nil {
		return err
	}
	m.wentWell(r, FailedReplicas)
	m.releaseLease(r)
	return nil
}
