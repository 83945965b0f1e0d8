package importer

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// clockSlack is how far behind the kernel's coarse clock, which stamps files, may be.
const clockSlack = 20 * time.Millisecond

// device is a file system that files are read from.
type device struct {
	dev      uint64
	caches   bool        // its stamps can be trusted
	noXattrs atomic.Bool // it has none

	once   sync.Once
	synced atomic.Int64 // ns since 1970, when the sync before the first reading began; 0: not yet
	err    error
}

type devices struct {
	caching bool
	mu      sync.Mutex
	by      map[uint64]*device
}

func newDevices(caching bool) *devices { return &devices{caching: caching, by: map[uint64]*device{}} }

// of returns the device that st of fd is on.
func (ds *devices) of(fd int, st *unix.Stat_t) (*device, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d := ds.by[st.Dev]; d != nil {
		return d, nil
	}
	d := &device{dev: st.Dev}
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
// are somebody else's to write (FUSE, network file systems), a change may leave no trace.
func stampsContent(magic int64) bool {
	const overlayfs, f2fs = 0x794c7630, 0xf2f52010
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, overlayfs, f2fs:
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
	return d.caches && st.Dev == d.dev && st.Ctim.Nano() < d.synced.Load()-int64(clockSlack)
}
