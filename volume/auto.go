package volume

import (
	"context"
	"fmt"
	"sync"
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

// autoCommits is how many automatic commits go on at a time.
const autoCommits = 3

// schedule is what is known of volumes that are committed by themselves, by ID.
type schedule struct {
	free chan struct{} // has an element for each commit that goes on
	work sync.WaitGroup

	mu      sync.Mutex
	next    map[string]time.Time // when it is to be looked at
	quiet   map[string]time.Time // the last change that was committed for being quiet
	running map[string]bool

	replicas *latest // waits for those of heads, by ID
}

// Run commits the volumes whose options ask for it while they are mounted, on an interval or after nobody changed
// anything for a while, a few at a time; waits for the replicas of commits of which nobody else does; empties the trash;
// deletes what is left of overlays that have ended; keeps the states that other hosts made of volumes that are used here;
// has mounts show new states that follow them, and runs hooks for these; makes the reserve again when there is room;
// brings back what Start could not; and ends the mounts of containers that are gone without a word. It returns when ctx is
// done. What goes wrong is logged, and tried again after the next interval.
func (m *Manager) Run(ctx context.Context) {
	due := &schedule{
		free: make(chan struct{}, autoCommits),
		next: map[string]time.Time{}, quiet: map[string]time.Time{}, running: map[string]bool{},
		replicas: newLatest(replicateFew),
	}
	defer due.replicas.work.Wait()
	defer due.work.Wait()
	due.work.Go(func() { m.sweepRetired(ctx) })
	due.work.Go(func() { m.keepAdopted(ctx) })
	due.work.Go(func() { m.keepReserve(ctx) })
	due.work.Go(func() { m.startAgain(ctx) })
	due.work.Go(func() { m.endForgotten(ctx) })
	due.work.Go(func() { m.followHeads(ctx) })
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

// commitDue begins the commits whose time has come.
func (m *Manager) commitDue(ctx context.Context, due *schedule) {
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		m.log.Error("cannot look for volumes to commit", logError, err)
		return
	}
	now := m.o.Now()
	for _, r := range rs {
		if r.Awaited.Defined() && m.o.Replicate != nil {
			due.replicas.do(r.ID, func() { m.replicate(ctx, r.ID) })
		}
		o, err := r.options()
		every := max(o.Interval, o.Quiet/2)
		if err != nil || every == 0 || len(r.Users) == 0 {
			due.forget(r.ID)
			continue
		}
		if !due.begin(r.ID, now, every) {
			continue
		}
		due.work.Go(func() {
			defer due.end(r.ID)
			select {
			case due.free <- struct{}{}:
				defer func() { <-due.free }()
				m.autoCommit(ctx, r, o, due)
			case <-ctx.Done():
			}
		})
	}
}

func (d *schedule) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.next, id)
}

// begin reports whether a volume's time has come. The first time is one interval after it is first asked for.
func (d *schedule) begin(id string, now time.Time, every time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, known := d.next[id]
	if known && now.Before(at) || d.running[id] {
		return false
	}
	d.next[id] = now.Add(every)
	d.running[id] = known
	return known
}

func (d *schedule) end(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, id)
}

// committed notes the last change that was committed for being quiet, and reports whether it is another than before.
func (d *schedule) committed(id string, change time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if change.Equal(d.quiet[id]) {
		return false
	}
	d.quiet[id] = change
	return true
}

func (m *Manager) autoCommit(ctx context.Context, r *record, o VolumeOptions, due *schedule) {
	if o.Quiet > 0 && !m.quiet(ctx, r, o.Quiet, due) {
		return
	}
	res, err := m.Do(ctx, &Commit{Name: r.Name, NoWait: true, pauseIfCan: !o.NoPause})
	switch {
	case err != nil && ctx.Err() == nil:
		m.log.Error("automatic commit", logVolume, r.Name, logError, err)
		m.failed(r, FailedCommit, err)
		due.committed(r.ID, time.Time{})
	case len(res.Unsettled) > 0:
		m.log.Warn("files changed while an automatic commit read them", logVolume, r.Name, "paths", len(res.Unsettled), "first", res.Unsettled[0])
	}
	m.watchSize(ctx, r, o, false)
}

// quiet reports whether there are changes since the last time, and none for a while.
func (m *Manager) quiet(ctx context.Context, r *record, forAWhile time.Duration, due *schedule) bool {
	teller, ok := m.o.Mounter.(ChangeTeller)
	if !ok || r.Overlay == nil {
		return false
	}
	last, err := teller.LastChange(ctx, m.overlayDir(r.Overlay.ID))
	if err != nil {
		if ctx.Err() == nil {
			m.log.Error("look for changes", logVolume, r.Name, logError, err)
			m.failed(r, FailedCommit, fmt.Errorf("look for changes: %w", err))
		}
		return false
	}
	return m.o.Now().Sub(last) >= forAWhile && due.committed(r.ID, last)
}
