package volume

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/volary/volary/snapshot"
)

// Pauser stops the processes that can write to a mount, so that all files read meanwhile are of one instant. It is
// safe for concurrent use.
//
// Pause returns once every process stands still that sees the mount in a namespace of its own, or has files of the
// file system mounted there open. If one cannot be stopped, the error wraps ErrCannotPause, names it and says why, and
// nobody is left stopped. resume, to be called once and in any case, lets them go on; its error says why somebody may
// have written before.
type Pauser interface {
	Pause(ctx context.Context, mount string) (resume func() error, err error)
}

// reading is what was read of an overlay.
type reading struct {
	commit    *snapshot.Commit
	unsettled []string // paths that changed each time they were read
	how       snapshot.Consistency
	began     time.Time // by the clock that stamps files
	warning   string    // what went wrong, but did not keep the files from being read
}

// read stores what the overlay shows, with those who write stopped if op asks for it.
func (m *Manager) read(ctx context.Context, s Session, r *record, op Commit, how snapshot.Consistency) (reading, error) {
	began := time.Now()
	c, unsettled, err := m.snapshot(ctx, s, r)
	got := reading{commit: c, unsettled: unsettled, how: how, began: began}
	if err != nil || how != snapshot.Live || !op.Pause && !op.pauseIfCan {
		return got, err
	}
	// Nothing was changed, so nobody need be stopped.
	if same, err := m.isHead(ctx, s, r, c); err != nil || same {
		return got, err
	}
	// Only what is durable is known when files are read again.
	if err := s.Sync(ctx); err != nil {
		return got, err
	}
	resume, err := m.pause(ctx, r)
	switch {
	case err == nil:
		return m.readPaused(ctx, s, r, op, resume)
	case op.Pause:
		return got, err
	}
	m.log.Debug("commit without a pause", logVolume, r.Name, logError, err)
	return got, nil
}

func (m *Manager) pause(ctx context.Context, r *record) (resume func() error, err error) {
	if m.o.Pauser == nil {
		return nil, fmt.Errorf("%w: this daemon cannot stop processes", ErrCannotPause)
	}
	return m.o.Pauser.Pause(ctx, m.o.Mounter.Path(m.overlayDir(r.Overlay.ID)))
}

// readPaused reads again what was read just before. Those who write stand still only while the files are read that
// changed since, or shortly before that (importer.DefaultSlack).
func (m *Manager) readPaused(ctx context.Context, s Session, r *record, op Commit, resume func() error) (reading, error) {
	again := *r
	again.Overlay = m.thisBoot(r.Overlay)
	var broken error
	began := time.Now()
	c, unsettled, err := func() (*snapshot.Commit, []string, error) {
		defer func() { broken = resume() }()
		return m.snapshot(ctx, s, &again)
	}()
	if broken == nil && len(unsettled) > 0 {
		broken = fmt.Errorf("somebody changed %q", unsettled[0])
	}
	if err == nil && broken != nil {
		level := slog.LevelDebug
		if op.Pause {
			level = slog.LevelWarn
		}
		m.log.Log(ctx, level, "not everybody stood still while files were read", logVolume, r.Name, logError, broken)
		return reading{commit: c, unsettled: unsettled, how: snapshot.Live, began: began}, nil
	}
	return reading{commit: c, unsettled: unsettled, how: snapshot.Paused, began: began}, err
}
