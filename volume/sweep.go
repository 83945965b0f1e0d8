package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/volume/mounts"
)

// retire ends an overlay whose changes are in the head. Its directory is deleted beside what comes next.
func (m *Manager) retire(r *record) error {
	if err := m.step(StepRetire); err != nil {
		return err
	}
	next := *r
	next.Overlay = nil
	if err := m.db.retire(&next, r.Overlay.ID); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.looks, r.Overlay.ID)
	m.mu.Unlock()
	m.wentWell(r, FailedUnmount)
	*r = next
	m.askSweep()
	return nil
}

func (m *Manager) askSweep() {
	select {
	case m.retired <- struct{}{}:
	default: // one is asked for already
	}
}

// sweepRetired sweeps now, and whenever an overlay ended, until ctx is done.
func (m *Manager) sweepRetired(ctx context.Context) {
	for {
		if err := m.Sweep(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("committed changes are still on the disk", logError, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.retired:
		}
	}
}

// Sweep deletes the directories of overlays that have ended, as [Manager.Run] does by itself. What it does not get
// done the next one does.
func (m *Manager) Sweep(ctx context.Context) error {
	m.sweeping.Lock()
	defer m.sweeping.Unlock()
	ids, err := m.db.retired()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := m.step(StepDelete); err != nil {
			return err
		}
		err := m.removeEnded(ctx, m.overlayDir(id))
		if err == nil {
			err = m.db.deleted(id)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("delete the changes that were committed: %w", err))
		}
	}
	return errors.Join(errs...)
}

// ended is at the end of the name of a directory that is being deleted: what is left of its changes is not all of
// them, whatever a database says that was not there when they were committed.
const ended = ".ended"

func (m *Manager) removeEnded(ctx context.Context, dir string) error {
	if err := os.Rename(dir, dir+ended); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := m.release(dir + ended); err != nil {
		return err
	}
	return removeOverlay(ctx, dir+ended)
}

// removeOverlay deletes a directory of changes, but never what is mounted in it.
func removeOverlay(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return durable.SyncDir(filepath.Dir(dir))
	}
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if mounted, err := mounts.IsPoint(path); err != nil || mounted {
			return cmp.Or(err, fmt.Errorf("something is still mounted at %s", path))
		}
	}
	if err := empty(ctx, root, emptyDepth); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

const (
	emptyDepth = 16   // how deep it is looked whether to go on
	emptyBatch = 1024 // names that are read at a time
)

// empty deletes what is in a directory, as long as ctx lasts.
func empty(ctx context.Context, dir *os.Root, depth int) error {
	for {
		entries, err := firstEntries(dir)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if e.IsDir() && depth > 0 {
				if err := emptySub(ctx, dir, e.Name(), depth-1); err != nil {
					return err
				}
			}
			if err := dir.RemoveAll(e.Name()); err != nil {
				return err
			}
		}
	}
}

func emptySub(ctx context.Context, dir *os.Root, name string, depth int) error {
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return empty(ctx, sub, depth)
}

func firstEntries(dir *os.Root) ([]fs.DirEntry, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(emptyBatch)
	if err == io.EOF {
		err = nil
	}
	return entries, err
}
