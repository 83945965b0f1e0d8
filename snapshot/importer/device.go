package importer

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSlack is how much older than the first reading a file's last change must be for the file to be
// remembered. The kernel stamps a file when a write(2) begins, once, and copies the bytes after that: a write
// that was throttled meanwhile goes on under a stamp that is seconds old. Its coarse clock, which is behind by
// some milliseconds, is in it as well. What was changed later is read once more by the next import.
const DefaultSlack = 3 * time.Second

// device is a file system that files are read from.
type device struct {
	dev    uint64
	caches bool // its stamps can be trusted
	slack  time.Duration

	once   sync.Once
	synced atomic.Int64 // ns since 1970, when the sync before the first reading began; 0: not yet
	err    error
}

type devices struct {
	caching bool
	slack   time.Duration
	mu      sync.Mutex
	by      map[uint64]*device
}

func newDevices(caching bool, slack time.Duration) *devices {
	return &devices{caching: caching, slack: slack, by: map[uint64]*device{}}
}

// of returns the device that st of fd is on.
func (ds *devices) of(fd int, st *unix.Stat_t) (*device, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d := ds.by[st.Dev]; d != nil {
		return d, nil
	}
	d := &device{dev: st.Dev, slack: ds.slack}
	if ds.caching {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err != nil {
			return nil, err
		}
		d.caches = stampsContent(int64(fs.Type))
	}
	ds.by[st.Dev] = d
	return d, nil
}

// stampsContent reports whether a file system of this type (statfs(2)) writes dirty pages back in such a way
// that a later store through a mapping stamps the file anew. Where pages are never written back (tmpfs), or
// are somebody else's to write (FUSE, network file systems), a change may leave no trace. So it is with an
// overlay: its upper layer may be on any of these, and mounted volatile it does not sync.
func stampsContent(magic int64) bool {
	const f2fs = 0xf2f52010
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, f2fs:
		return true
	}
	return false
}

// beforeContent is called before content on a device is read. Once for each it writes back what is dirty: a
// store through a mapping stamps a file only when it makes a clean page dirty.
func (r *run) beforeContent(d *device, fd int) error {
	if !d.caches {
		return nil
	}
	d.once.Do(func() {
		began := time.Now().UnixNano()
		if d.err = unix.Syncfs(fd); d.err == nil {
			d.synced.Store(began)
		}
	})
	return d.err
}

// settled reports whether any later change of a file with these stamps will show in them.
func (d *device) settled(st *unix.Stat_t) bool {
	return d.caches && st.Dev == d.dev && st.Ctim.Nano() < d.synced.Load()-int64(d.slack)
}
