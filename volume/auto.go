package volume

import (
	"context"
	"time"
)

// commitsDue is how often volumes are looked at that are committed on an interval.
const commitsDue = time.Second

// trashDue is how often it is looked for removed volumes whose time is over.
const trashDue = time.Hour

// ChangeTeller is what a Mounter is beyond that if it can say when something in a mount was last changed.
type ChangeTeller interface {
	LastChange(ctx context.Context, dir string) (time.Time, error)
}

// schedule is when volumes are to be looked at, by ID, and the last change that was committed for being quiet.
type schedule struct {
	next  map[string]time.Time
	quiet map[string]time.Time
}

// Run commits the volumes whose options ask for it while they are mounted, on an interval or after nobody changed
// anything for a while, until ctx is done. What goes wrong is logged, and tried again after the next interval.
func (m *Manager) Run(ctx context.Context) {
	due := schedule{map[string]time.Time{}, map[string]time.Time{}}
	tick := time.NewTicker(commitsDue)
	defer tick.Stop()
	trash := time.NewTicker(trashDue)
	defer trash.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.commitDue(ctx, due)
		case <-trash.C:
			m.emptyTrash(ctx)
		}
	}
}

func (m *Manager) commitDue(ctx context.Context, due schedule) {
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		m.log.Error("cannot look for volumes to commit", logError, err)
		return
	}
	now := m.o.Now()
	for _, r := range rs {
		o, err := ParseOptions(r.Options)
		every := max(o.Interval, o.Quiet/2)
		if err != nil || every == 0 || len(r.Users) == 0 {
			delete(due.next, r.ID)
			continue
		}
		at, known := due.next[r.ID]
		if known && now.Before(at) {
			continue
		}
		due.next[r.ID] = now.Add(every)
		if !known || o.Quiet > 0 && !m.quiet(ctx, r, o.Quiet, due) {
			continue
		}
		res, err := m.Do(ctx, &Commit{Name: r.Name, pauseIfCan: !o.NoPause})
		switch {
		case err != nil && ctx.Err() == nil:
			m.log.Error("automatic commit", logVolume, r.Name, logError, err)
			delete(due.quiet, r.ID)
		case len(res.Unsettled) > 0:
			m.log.Warn("files changed while an automatic commit read them", logVolume, r.Name, "paths", len(res.Unsettled), "first", res.Unsettled[0])
		}
	}
}

// quiet reports whether there are changes since the last time, and none for a while.
func (m *Manager) quiet(ctx context.Context, r *record, forAWhile time.Duration, due schedule) bool {
	teller, ok := m.o.Mounter.(ChangeTeller)
	if !ok || r.Overlay == nil {
		return false
	}
	last, err := teller.LastChange(ctx, m.overlayDir(r.Overlay.ID))
	if err != nil {
		m.log.Error("look for changes", logVolume, r.Name, logError, err)
		return false
	}
	if last.Equal(due.quiet[r.ID]) || m.o.Now().Sub(last) < forAWhile {
		return false
	}
	due.quiet[r.ID] = last
	return true
}
