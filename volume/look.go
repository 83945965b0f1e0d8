package volume

import (
	"context"
	"time"
)

// look is what was found when an overlay was last read.
type look struct {
	began time.Time // what was changed later may have been missed
	dirty bool      // it shows something else than the head
}

const (
	// stampSlack is how much stamps of files may lag behind the clock.
	stampSlack = 50 * time.Millisecond
	// lookWait is how long a volume that somebody works on is waited for to look for changes.
	lookWait = 100 * time.Millisecond
)

// looked notes whether an overlay shows something else than the head.
func (m *Manager) looked(o *overlayRecord, began time.Time, dirty bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks[o.ID] = look{began, dirty}
}

// changed is dirty without reading what was changed, where the stamps of files tell. What was changed and changed
// back counts. Nil means that it cannot be known now.
func (m *Manager) changed(ctx context.Context, r *record) (*bool, error) {
	dirty, err := m.changedSince(ctx, r)
	if dirty != nil || err != nil || m.o.Mounter == nil {
		return dirty, err
	}
	return m.dirtyUnlessBusy(ctx, r.Name)
}

// changedSince is changed as far as stamps tell; nil where they do not.
func (m *Manager) changedSince(ctx context.Context, r *record) (*bool, error) {
	yes, no := true, false
	if r.Overlay == nil || r.Overlay.ReadOnly {
		return &no, nil
	}
	m.mu.Lock()
	last, known := m.looks[r.Overlay.ID]
	m.mu.Unlock()
	teller, tells := m.o.Mounter.(ChangeTeller)
	if !tells || !known {
		return nil, nil
	}
	newest, err := teller.LastChange(ctx, m.overlayDir(r.Overlay.ID))
	switch {
	case err != nil:
		return nil, err
	case newest.Before(last.began.Add(-stampSlack)):
		return &last.dirty, nil
	case newest.After(last.began.Add(stampSlack)):
		return &yes, nil
	}
	return nil, nil
}

// dirtyUnlessBusy is dirty, or nil if somebody works on the volume.
func (m *Manager) dirtyUnlessBusy(ctx context.Context, name string) (*bool, error) {
	short, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	unlock, err := m.acquire(short, name)
	if err != nil {
		return nil, ctx.Err()
	}
	defer unlock()
	r, err := m.db.get(name)
	if err != nil {
		return nil, err
	}
	dirty, err := m.dirty(ctx, r)
	return &dirty, err
}
