package volume

import (
	"context"
	"time"
)

// Failure is what went wrong with a volume when nobody was there to be told.
type Failure struct {
	Time  time.Time `json:"time"`
	What  string    `json:"what"` // one of those below
	Error string    `json:"error"`
}

// What a Failure is of.
const (
	FailedCommit   = "automatic commit"
	FailedStart    = "mount at the start"
	FailedUnmount  = "unmount"     // of a user who does not ask again; nothing is lost, and it is tried again
	FailedReplicas = "replication" // of an automatic commit
	FailedFollow   = "following"   // the newest state is not the one that is shown
	FailedHook     = "hook on a new head"
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
	Dirty         *uint64 `json:"dirty,omitempty"`   // with changes that no commit has; where it was looked for
	Failing       uint64  `json:"failing"`           // of which the last thing failed that was done by itself
	FailedCommits uint64  `json:"failed_commits"`    // automatic ones, since the start
	Removed       uint64  `json:"removed,omitempty"` // that can be brought back, beside the others
}

// Count says how many volumes there are, without looking for changes.
func (m *Manager) Count(context.Context) (Counts, error) {
	removed, err := m.db.list(bucketTrash)
	if err != nil {
		return Counts{}, err
	}
	rs, err := m.db.list(bucketVolumes)
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Counts{Volumes: uint64(len(rs)), Removed: uint64(len(removed)), FailedCommits: m.failedCommits}
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
