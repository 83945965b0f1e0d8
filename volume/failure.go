package volume

import (
	"context"
	"time"
)

// Failure is what went wrong with a volume when nobody was there to be told.
type Failure struct {
	Time  time.Time `json:"time"`
	What  string    `json:"what"` // FailedCommit, FailedStart or FailedReplicas
	Error string    `json:"error"`
}

// What a Failure is of.
const (
	FailedCommit   = "automatic commit"
	FailedStart    = "mount at the start"
	FailedReplicas = "replication" // of an automatic commit
)

// failed remembers what went wrong with a volume until it goes well.
func (m *Manager) failed(r *record, what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures[r.ID] = Failure{Time: m.o.Now().UTC(), What: what, Error: err.Error()}
	if what == FailedCommit {
		m.failedCommits++
	}
}

// wentWell forgets a failure of a kind.
func (m *Manager) wentWell(r *record, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failures[r.ID].What == what {
		delete(m.failures, r.ID)
	}
}

func (m *Manager) failure(r *record) *Failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, failed := m.failures[r.ID]; failed {
		return &f
	}
	return nil
}

// Counts say how volumes are.
type Counts struct {
	Volumes       uint64  `json:"volumes"`
	Mounted       uint64  `json:"mounted"`
	Dirty         *uint64 `json:"dirty,omitempty"` // with changes that no commit has; where it was looked for
	Failing       uint64  `json:"failing"`         // whose last automatic commit, its replication, or mount at the start, failed
	FailedCommits uint64  `json:"failed_commits"`  // automatic ones, since the start
}

// Count says how many volumes there are, without looking for changes.
func (m *Manager) Count(context.Context) (Counts, error) {
	rs, err := m.db.list(bucketVolumes)
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Counts{Volumes: uint64(len(rs)), FailedCommits: m.failedCommits}
	for _, r := range rs {
		if len(r.Users) > 0 {
			c.Mounted++
		}
		if _, failed := m.failures[r.ID]; failed {
			c.Failing++
		}
	}
	return c, err
}
