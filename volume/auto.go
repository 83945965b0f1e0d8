package volume

import (
	"context"
	"time"
)

// commitsDue is how often volumes are looked at that are committed on an interval.
const commitsDue = time.Second

// Run commits the volumes whose options ask for it on an interval while they are mounted, until ctx is done. What
// goes wrong is logged, and tried again after the next interval.
func (m *Manager) Run(ctx context.Context) {
	next := map[string]time.Time{} // by volume ID
	tick := time.NewTicker(commitsDue)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.commitDue(ctx, next)
		}
	}
}

func (m *Manager) commitDue(ctx context.Context, next map[string]time.Time) {
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		m.log.Error("cannot look for volumes to commit", logError, err)
		return
	}
	now := m.o.Now()
	for _, r := range rs {
		o, err := ParseOptions(r.Options)
		if err != nil || o.Interval == 0 || len(r.Users) == 0 {
			delete(next, r.ID)
			continue
		}
		due, known := next[r.ID]
		if known && now.Before(due) {
			continue
		}
		next[r.ID] = now.Add(o.Interval)
		if !known {
			continue
		}
		if _, err := m.Do(ctx, &Commit{Name: r.Name, pauseIfCan: !o.NoPause}); err != nil && ctx.Err() == nil {
			m.log.Error("automatic commit", logVolume, r.Name, logError, err)
		}
	}
}
