package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/mounts"
)

// Recovered begins the tags of snapshots made of changes that no volume knew of; the overlay's ID follows.
const Recovered = "recovered/"

// Tagger gives snapshots of the host names that people find them by. What has one is kept.
type Tagger interface {
	Tag(ctx context.Context, name string, root cid.Cid) error
}

// A Salvager is what a Mounter is beyond that if it can store the changes in dir as they are on the disk, without
// what they are on. It returns no commit if there are none, and the paths that changed while they were read.
type Salvager interface {
	Salvage(ctx context.Context, s Session, dir string, o importer.Options) (*snapshot.Commit, []string, error)
}

// salvaged is what was read of changes that no volume knows of.
type salvaged struct {
	commit *snapshot.Commit // nil: nothing was changed
	base   *tree.Snapshot   // nil: the changes are as they were on the disk, for their base is not known
	own    bool
}

// recoverUnknown makes snapshots of changes that no volume knows of, as after the database was lost or replaced by an
// older copy, and deletes them then. What cannot be read stays where it is, and the log says so.
func (m *Manager) recoverUnknown(ctx context.Context) error {
	unknown, err := m.unknownOverlays()
	if err != nil {
		return err
	}
	for _, id := range unknown {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		take := m.recoverOverlay
		if strings.HasSuffix(id, ended) {
			take = func(ctx context.Context, id string) error {
				return m.removeEnded(ctx, strings.TrimSuffix(m.overlayDir(id), ended))
			}
		}
		if err := take(ctx, id); err != nil {
			m.log.Error("no volume knows of these changes, and they stay where they are", logDir, m.overlayDir(id), logError, err)
		}
	}
	return nil
}

// unknownOverlays lists what is beside the overlays of volumes. Those that are being made are waited for: what is
// unknown stays unknown.
func (m *Manager) unknownOverlays() (unknown []string, _ error) {
	m.making.Lock()
	defer m.making.Unlock()
	known, err := m.db.overlays()
	if err != nil {
		return nil, err
	}
	found, err := os.ReadDir(filepath.Join(m.dir, overlaysDir))
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if !known[e.Name()] && !known[strings.TrimSuffix(e.Name(), ended)] {
			unknown = append(unknown, e.Name())
		}
	}
	return unknown, nil
}

// neededUnknown adds to what volumes need the bases of changes that no volume knows of yet.
func (m *Manager) neededUnknown(roots map[cid.Cid]string) error {
	unknown, err := m.unknownOverlays()
	if err != nil {
		return err
	}
	for _, id := range unknown {
		if n, err := readNote(m.overlayDir(id)); err == nil {
			roots[n.Base.Cid] = n.Volume
		}
	}
	return nil
}

// recoverOverlay makes a snapshot of changes that no volume knows of, if there are any, and deletes them once it is
// durable, kept and tagged.
func (m *Manager) recoverOverlay(ctx context.Context, id string) error {
	dir := m.overlayDir(id)
	if err := removeUnmade(dir); err == nil || errors.Is(err, unix.ENOTDIR) {
		return err
	}
	if m.o.Mounter == nil {
		return ErrCannotMount
	}
	n, err := readNote(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, snapshot.ErrDamaged) {
		return err
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	got, err := m.salvage(ctx, s, dir, n)
	if err != nil {
		return err
	}
	if n == nil && got.commit == nil {
		return errors.New("it has no changes that this program could read")
	}
	if got.commit != nil {
		root, err := m.keepRecovered(ctx, s, id, n, got)
		if err != nil {
			return err
		}
		tag := Recovered + id
		m.log.Warn("changes that no volume knew of are a snapshot now", logDir, dir, "commit", root.String(), "tag", tag,
			"get it back", fmt.Sprintf("volary restore %s DIR, or volary volume create NAME --from %s", tag, tag))
	}
	if err := m.step(StepRetire); err != nil {
		return err
	}
	if err := m.db.retireUnknown(id); err != nil {
		return err
	}
	m.askSweep()
	return nil
}

// removeUnmade deletes a directory that nothing was done in: it is empty, or its note was not written to the end.
func removeUnmade(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), "."+noteFile+"-") {
			return unix.ENOTEMPTY
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// salvage unmounts changes that no volume knows of and stores them: merged with what they are noted to be on and
// nothing else, or where that cannot be had, as they are on the disk.
func (m *Manager) salvage(ctx context.Context, s Session, dir string, n *note) (salvaged, error) {
	if n == nil {
		if err := m.o.Mounter.Unmount(ctx, dir); err != nil {
			return salvaged{}, err
		}
		return m.salvageRaw(ctx, s, dir)
	}
	got, err := m.salvageOn(ctx, s, dir, n)
	if !errors.Is(err, snapshot.ErrNotFound) && !errors.Is(err, snapshot.ErrDamaged) && !errors.Is(err, snapshot.ErrFormat) {
		return got, err
	}
	m.log.Warn("what changes are on cannot be read", logDir, dir, "base", n.Base.String(), logError, err)
	if err := m.o.Mounter.Unmount(ctx, dir); err != nil {
		return salvaged{}, err
	}
	return m.salvageRaw(ctx, s, dir)
}

func (m *Manager) salvageOn(ctx context.Context, s Session, dir string, n *note) (got salvaged, err error) {
	if got.base, err = tree.Open(ctx, s, n.Base.Cid); err != nil {
		return got, err
	}
	if got.base.Commit == nil {
		return got, fmt.Errorf("%s is no commit: %w", n.Base, snapshot.ErrFormat)
	}
	if got.own, err = m.o.Own.Own(ctx, n.Base.Cid); err != nil {
		return got, err
	}
	if err := m.takeDown(ctx, dir, n, got); err != nil || n.ReadOnly {
		return got, err
	}
	var unsettled []string
	got.commit, unsettled, err = m.o.Mounter.Snapshot(ctx, s, got.base, dir, m.salvageOptions(s, got.base.Commit))
	if err == nil && n.Tmpfs {
		err = m.o.Mounter.Unmount(ctx, dir)
	}
	if err := whole(unsettled, err); err != nil {
		return got, err
	}
	if same, err := sameState(ctx, s, got.base, got.commit); err != nil || same {
		return salvaged{}, err
	}
	return got, nil
}

// takeDown unmounts an overlay that no volume knows of, after whoever served it before was replaced: unmounting may
// ask. Changes in memory are read first.
func (m *Manager) takeDown(ctx context.Context, dir string, n *note, got salvaged) error {
	mounted, err := mounts.IsPoint(m.o.Mounter.Path(dir))
	if mounted {
		err = m.o.Mounter.Mount(ctx, got.base, dir, mountOptions(&n.overlayRecord, got.own))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n.Tmpfs {
		return nil
	}
	return m.o.Mounter.Unmount(ctx, dir)
}

func (m *Manager) salvageRaw(ctx context.Context, s Session, dir string) (salvaged, error) {
	salvager, ok := m.o.Mounter.(Salvager)
	if !ok {
		return salvaged{}, errors.New("what they are on is not known")
	}
	c, unsettled, err := salvager.Salvage(ctx, s, dir, m.salvageOptions(s, nil))
	return salvaged{commit: c}, whole(unsettled, err)
}

// whole is an error if something changed while it was read.
func whole(unsettled []string, err error) error {
	if err == nil && len(unsettled) > 0 {
		return fmt.Errorf("%w: somebody changes %q while nothing is mounted", ErrInUse, unsettled[0])
	}
	return err
}

func (m *Manager) salvageOptions(s Session, base *snapshot.Commit) importer.Options {
	o := importer.Options{Chunker: m.o.Chunker, NoIgnoreFile: true, Cache: importer.Forgetful{StatCache: s}}
	if base != nil && base.Import.Chunker != "" {
		o.Chunker = base.Import.Chunker
	}
	return o
}

// keepRecovered makes what was salvaged durable, keeps it and tags it. At a start before this one that may have been
// done already.
func (m *Manager) keepRecovered(ctx context.Context, s Session, id string, n *note, got salvaged) (cid.Cid, error) {
	name := Recovered + id
	root, err := m.recoveredBefore(ctx, s, name, got.commit)
	if err != nil {
		return cid.Undef, err
	}
	if !root.Defined() {
		c, from := got.commit, "an unknown volume"
		if n != nil {
			from = "volume " + n.Volume
		}
		c.Consistency, c.Labels = snapshot.Clean, map[string]string{"recovered": id}
		c.Message = "recovered: changes of " + from + " that were not committed"
		var parents []cid.Cid
		if got.base != nil {
			parents = append(parents, got.base.CID)
		} else {
			c.Message = "recovered: the directory for changes of " + from + ", without what they are on"
		}
		if root, err = m.store(ctx, s, c, got.own, parents...); err != nil {
			return cid.Undef, err
		}
		if err := m.o.Pins.Add(ctx, pinset.Pin{Root: root, Name: name, Created: c.Time}); err != nil {
			return cid.Undef, err
		}
	}
	if err := m.step(StepTag); err != nil || m.o.Tags == nil {
		return root, err
	}
	return root, m.o.Tags.Tag(ctx, name, root)
}

// recoveredBefore returns the snapshot that was pinned under a name, if it is of the same state as c.
func (m *Manager) recoveredBefore(ctx context.Context, s Session, name string, c *snapshot.Commit) (cid.Cid, error) {
	for p, err := range m.o.Pins.All(ctx) {
		if err != nil {
			return cid.Undef, err
		}
		if p.Name != name {
			continue
		}
		was, err := tree.Open(ctx, s, p.Root)
		if err != nil || was.Commit == nil {
			continue // whatever it is, it does not have what was salvaged
		}
		if same, err := sameState(ctx, s, was, c); err == nil && same {
			return p.Root, nil
		}
	}
	return cid.Undef, nil
}
