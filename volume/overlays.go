package volume

import (
	"context"
	"os"
	"path/filepath"

	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/tree"
)

// newOverlay records a fresh directory of changes together with its base, before anything is in it.
func (m *Manager) newOverlay(r *record, o VolumeOptions, way overlayRecord) error {
	next := *r
	next.Overlay = &overlayRecord{
		ID: newID(), Base: r.Head, ReadOnly: way.ReadOnly, Follow: way.Follow, Full: o.Lower == LowerFull, Tmpfs: o.Overlay == OverlayTmpfs, Boot: m.o.Boot,
		Unused: len(r.Users) == 0,
	}
	m.making.Lock()
	defer m.making.Unlock()
	dir := m.overlayDir(next.Overlay.ID)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	if err := m.writeNote(&next); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := m.step(StepOverlay); err != nil {
		return err
	}
	if err := m.db.put(&next); err != nil {
		return err
	}
	*r = next
	return nil
}

// dropUnused ends an overlay that nobody was told of, as it could not be mounted: what is mounted next begins at the newest
// state. A copy of a base that is that still is gone on with.
func (m *Manager) dropUnused(ctx context.Context, r *record) error {
	if !r.unused() || m.o.Mounter == nil {
		return nil
	}
	if r.Overlay.Full {
		bare := *r
		bare.Overlay = nil
		if next, err := m.newest(ctx, &bare); err != nil || next.Head == r.Overlay.Base {
			return err
		}
	}
	m.giveUp(ctx, r)
	return nil
}

// giveUp ends an overlay that could not be mounted, and that nobody has seen: the next one has the options of then.
func (m *Manager) giveUp(ctx context.Context, r *record) {
	err := m.o.Mounter.Unmount(ctx, m.overlayDir(r.Overlay.ID))
	if err == nil {
		err = m.retire(r)
	}
	if err != nil {
		m.log.Warn("what could not be mounted stays until the volume is unmounted", logVolume, r.Name, logError, err)
	}
}

// unused reports whether there is an overlay that nobody was told of. Nothing is in it.
func (r *record) unused() bool { return r.Overlay != nil && r.Overlay.Unused && len(r.Users) == 0 }

// mountOverlay mounts what is recorded, or takes over what is mounted already.
func (m *Manager) mountOverlay(ctx context.Context, r *record) error {
	if err := m.checkNote(r); err != nil {
		return err
	}
	base, err := tree.Open(ctx, m.o.Blocks, r.Overlay.Base.Cid)
	if err != nil {
		return err
	}
	own, err := m.o.Own.Own(ctx, r.Overlay.Base.Cid)
	if err != nil {
		return err
	}
	if err := m.step(StepMount); err != nil {
		return err
	}
	opts, err := r.options()
	if err != nil {
		return err
	}
	o := mountOptions(r.Overlay, own)
	o.Size, o.IOTimeout = opts.Size, opts.IOTimeout
	return m.o.Mounter.Mount(ctx, base, m.overlayDir(r.Overlay.ID), o)
}

// mountOptions are those that an overlay has as long as it lives.
func mountOptions(o *overlayRecord, own bool) MountOptions {
	return MountOptions{ReadOnly: o.ReadOnly, Follow: o.Follow, Foreign: !own || o.Follow, Full: o.Full, Tmpfs: o.Tmpfs}
}

// renewOverlay puts a fresh overlay on the head in the place of one whose changes are gone.
func (m *Manager) renewOverlay(r *record) error {
	o, err := r.options()
	if err != nil {
		return err
	}
	old := r.Overlay.ID
	if err := m.newOverlay(r, o, overlayRecord{}); err != nil {
		return err
	}
	return m.db.retire(r, old)
}
