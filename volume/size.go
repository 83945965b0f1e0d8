package volume

import (
	"context"
	"errors"
	"io/fs"

	"github.com/dustin/go-humanize"
)

// space returns what a volume's changes take; nil if there can be none, or nothing is known of it.
func (m *Manager) space(ctx context.Context, r *record) (*Space, error) {
	l, ok := m.o.Mounter.(Limiter)
	if !ok || r.Overlay == nil || r.Overlay.ReadOnly {
		return nil, nil
	}
	s, err := l.Space(ctx, m.overlayDir(r.Overlay.ID))
	return &s, err
}

// enforces reports whether the changes of a volume cannot take more than its size, or will not be able to; nil if it has no
// size, or that is not known.
func (m *Manager) enforces(r *record, i *Info) (*bool, error) {
	e, ok := m.o.Mounter.(Enforcer)
	if !ok || i.Size == 0 {
		return nil, nil
	}
	dir := m.overlayDir("")
	if r.Overlay != nil {
		dir = m.overlayDir(r.Overlay.ID)
	} else if i.Options["overlay"] == OverlayTmpfs {
		return new(true), nil
	}
	limited, err := e.Enforces(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it was unmounted meanwhile
	}
	return &limited, err
}

// watchSize tells the log when changes take more than they should, and with first also that nothing keeps them from it.
func (m *Manager) watchSize(ctx context.Context, r *record, o VolumeOptions, first bool) {
	if o.Size == 0 {
		return
	}
	s, err := m.space(ctx, r)
	if err != nil && ctx.Err() == nil {
		m.log.Error("look at the size", logVolume, r.Name, logError, err)
	}
	if err != nil || s == nil || s.Enforced {
		return
	}
	if first {
		m.log.Warn("the size is only watched: the file system has no project quotas, or the changes began without a size",
			logVolume, r.Name, logSize, humanize.IBytes(o.Size))
	}
	if s.Used > o.Size {
		m.log.Warn("changes take more than the volume's size",
			logVolume, r.Name, logSize, humanize.IBytes(o.Size), logUsed, humanize.IBytes(s.Used))
	}
}

// release forgets the limit of an overlay that is to be deleted.
func (m *Manager) release(dir string) error {
	if l, ok := m.o.Mounter.(Limiter); ok {
		return l.Release(dir)
	}
	return nil
}
