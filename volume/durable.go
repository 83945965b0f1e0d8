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
func (m *Manager) checkDurability(o VolumeOptions) error {
	if o.Durability == DurabilityCluster && m.o.Replicate == nil {
		return fmt.Errorf("option durability=%s: %w", o.Durability, ErrNoCluster)
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
	o, err := ParseOptions(i.Options)
	if err == nil {
		err = m.replicated(ctx, &record{ID: i.ID, Head: res.Commit}, o)
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

// replicate waits for the replicas of automatic commits until the head has all of them, whoever made it. As long as it
// does not, that is the volume's failure; commits go on. One such wait for each volume is enough.
func (m *Manager) replicate(ctx context.Context, id string, due *schedule) {
	for due.beginReplicating(id) {
		r := m.waitForHead(ctx, id)
		due.endReplicating(id)
		if now, err := m.db.ofID(id); r == nil || err != nil || now == nil || now.Head == r.Head {
			return
		}
	}
}

// waitForHead waits until the head of a volume is replicated, and returns the volume as it was then; nil if it is gone
// or ctx is done.
func (m *Manager) waitForHead(ctx context.Context, id string) *record {
	told := false
	for ctx.Err() == nil {
		r, err := m.db.ofID(id)
		if err != nil || r == nil {
			return nil
		}
		o, err := ParseOptions(r.Options)
		if err == nil {
			err = m.replicated(ctx, r, o)
		}
		if err == nil {
			return r
		}
		if ctx.Err() != nil {
			return nil
		}
		m.failed(r, FailedReplicas, err)
		if !told {
			m.log.Warn("an automatic commit is not replicated", logVolume, r.Name, logError, err)
		}
		told = true
		select {
		case <-ctx.Done():
		case <-time.After(commitsDue):
		}
	}
	return nil
}

func (d *schedule) beginReplicating(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.replicating[id] {
		return false
	}
	d.replicating[id] = true
	return true
}

func (d *schedule) endReplicating(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.replicating, id)
}
