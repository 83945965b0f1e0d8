package holder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
)

var errNotServed = errors.New("nothing is mounted there that this process serves")

// Follow has a directory that was mounted with the option Follow show a snapshot, in one step, and returns what can be
// read through the mount: that snapshot, and those that were shown before and are in use. What is not in use any more is
// found out a moment later: whoever wants to know it calls Follow again.
func (l *Lower) Follow(ctx context.Context, s *tree.Snapshot, dir string) ([]cid.Cid, error) {
	defer l.lock(dir)()
	m, _ := l.at(dir)
	if m == nil || m.refused {
		return nil, fmt.Errorf("show %s at %s: %w", s.CID, dir, errNotServed)
	}
	err := m.server.Follow(ctx, s, func(c view.Connection) error {
		if l.o.Holder == nil {
			return nil
		}
		return l.put(ctx, dir, s.CID, c, m.options)
	})
	if err != nil {
		return nil, fmt.Errorf("show %s at %s: %w", s.CID, dir, err)
	}
	var all []cid.Cid
	for _, g := range m.server.Generations() {
		all = append(all, g.Root)
	}
	if len(all) > 1 && m.due(s.CID) {
		if err := prune(dir); err != nil {
			l.o.Logger.Warn("what was shown before stays known to the kernel", logName, dir, logError, err)
		}
	}
	return all, nil
}

const (
	pruneFirst  = 10 * time.Second // after a switch it is looked again what is in use
	pruneAtMost = 10 * time.Minute // and again after twice as long each time, up to this
)

// due reports whether it is time to have the kernel let go of names: that costs those of what is shown as well. It is
// called with the directory's lock.
func (m *served) due(shown cid.Cid) bool {
	now := time.Now()
	switch {
	case m.pruned != shown:
		m.pruned, m.wait = shown, pruneFirst
	case now.Before(m.next):
		return false
	default:
		m.wait = min(2*m.wait, pruneAtMost)
	}
	m.next = now.Add(m.wait)
	return true
}

// following is Follow of a mount that was there before: it goes on with what it shows.
func following(o volume.MountOptions, was heldMount) bool {
	return o.Follow && was.Options == lasting(o) && len(was.Generations) > 0
}

// prune has the kernel let go of the names in a mount that nobody uses. To change nothing of its options does that.
func prune(dir string) error {
	m, ok, err := mounts.At(dir)
	if err != nil || !ok || m.Type != viewType {
		return err // it is in use elsewhere alone, if at all
	}
	fd, err := unix.Fspick(unix.AT_FDCWD, dir, unix.FSPICK_CLOEXEC|unix.FSPICK_NO_AUTOMOUNT|unix.FSPICK_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("fspick %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigReconfigure(fd); err != nil {
		return fmt.Errorf("fsconfig reconfigure: %w", err)
	}
	return nil
}

// viewType is how the kernel calls a view.
const viewType = "fuse.volary"
