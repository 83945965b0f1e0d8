package importer

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

const (
	// segmentEntries is about how many entries of a directory are looked at in one job and remembered in one
	// record of the cache.
	segmentEntries = 4096
	// keepOpenDepth is how deep a directory may be and stay open while there is work in it; a deeper one is
	// opened again for each job, so that descriptors are bounded.
	keepOpenDepth = 128
	// maxTries is how often a file that changes meanwhile is read.
	maxTries = 3
)

// dir is a directory in the work. Its jobs are its segments and then its subdirectories, one at a time.
type dir struct {
	*run
	parent *dir
	index  int // of its entry in the parent
	name   string
	depth  int
	dev    *device
	ino    uint64
	rules  rules

	entries  []entry // in byte order of the names
	subdirs  []int   // indices of entries, guarded by run.mu
	segments []*segment
	next     int     // of segments and then subdirs, guarded by run.mu
	record   *record // what the cache has; may be nil
	made     made    // of the top directory, once it is finished

	fdMu    sync.Mutex
	fd      int
	fdUsers int

	toOpen  atomic.Int64 // segments not done and subdirectories not opened: what the descriptor is for
	pending atomic.Int64 // segments and subdirectories not done
}

func (d *dir) path() string {
	if d.parent == nil {
		return ""
	}
	var names []string
	for ; d.parent != nil; d = d.parent {
		names = append(names, d.name)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}

func (d *dir) pathOf(name string) string {
	if d.parent == nil {
		return name
	}
	return d.path() + "/" + name
}

// fault says what went wrong at a path, and what the user can do.
func (d *dir) fault(op, name string, err error) error {
	path := "."
	if name != "" {
		path = d.pathOf(name)
	} else if d.parent != nil {
		path = d.path()
	}
	err = &fs.PathError{Op: op, Path: path, Err: err}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w\nexclude it to snapshot the rest", err)
	}
	return err
}

// take is called with run.mu held.
func (d *dir) take() (func(*worker) error, bool) {
	i := d.next
	d.next++
	more := d.next < len(d.segments)+len(d.subdirs)
	if i < len(d.segments) {
		return func(w *worker) error { return w.scan(d.segments[i]) }, more
	}
	sub := d.subdirs[i-len(d.segments)]
	return func(w *worker) error { return w.openSubdir(d, sub) }, more
}

// acquire returns the directory's descriptor, which stays open until release.
func (d *dir) acquire() (int, error) {
	d.fdMu.Lock()
	defer d.fdMu.Unlock()
	if d.fd < 0 {
		fd, err := d.reopen()
		if err != nil {
			return -1, err
		}
		d.fd = fd
	}
	d.fdUsers++
	return d.fd, nil
}

func (d *dir) release() {
	d.fdMu.Lock()
	defer d.fdMu.Unlock()
	if d.fdUsers--; d.fdUsers == 0 && d.fd >= 0 {
		d.fds.close(d.fd)
		d.fd = -1
	}
}

// reopen walks to the directory from the top one, which is open as long as there is work.
func (d *dir) reopen() (int, error) {
	var names []string
	up := d
	for ; up.parent != nil; up = up.parent {
		names = append(names, up.name)
	}
	fd, err := up.acquire()
	if err != nil {
		return -1, err
	}
	defer up.release()
	at := fd
	for i := len(names) - 1; i >= 0; i-- {
		next, err := unix.Openat(at, names[i], dirFlags, 0)
		if at != fd {
			unix.Close(at)
		}
		if err != nil {
			return -1, d.fault("open", "", err)
		}
		at = next
	}
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil || st.Ino != d.ino || st.Dev != d.dev.dev {
		unix.Close(at)
		return -1, d.fault("open", "", errors.New("another directory took its place"))
	}
	d.fds.add(at)
	return at, nil
}

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// opened takes the open directory into the work: lists it and pushes its jobs. e is its entry in the parent.
func (w *worker) opened(d *dir, e *entry) error {
	st, err := w.list(d)
	if err != nil {
		return err
	}
	e.extra = nil
	e.setStat(&st)
	xs, uncaptured, err := w.xattrs(fdTarget(d.fd))
	if err != nil {
		return d.fault("read attributes of", "", err)
	}
	e.setXattrs(xs, uncaptured)
	if err := w.loadDir(d); err != nil {
		return err
	}
	d.segments = newSegments(d)
	d.fdUsers = 1
	if d.depth <= keepOpenDepth {
		d.fdUsers++
	}
	if d.parent == nil {
		d.fdUsers++ // to the end of the run: deep directories are reached from here
	}
	n := int64(len(d.segments) + len(d.subdirs))
	d.toOpen.Store(n)
	d.pending.Store(n + 1)
	if n > 0 {
		w.push(d)
	} else if d.depth <= keepOpenDepth {
		d.release()
	}
	d.release()
	return w.finished(d)
}

// openedOne says that one thing that needed the descriptor is done.
func (d *dir) openedOne() {
	if d.toOpen.Add(-1) == 0 && d.depth <= keepOpenDepth {
		d.release()
	}
}

// errTooDeep is for what could be stored, but neither walked nor restored.
var errTooDeep = fmt.Errorf("deeper than %d directories\nleave it out with --exclude, or move it up", tree.DefaultMaxDepth)

// openSubdir opens an entry as a directory. What turns out not to be one any more is read as what it is.
func (w *worker) openSubdir(parent *dir, index int) error {
	e := &parent.entries[index]
	if parent.depth+1 >= tree.DefaultMaxDepth {
		return parent.fault("enter", e.name, errTooDeep)
	}
	at, err := parent.acquire()
	if err != nil {
		return err
	}
	defer parent.release()
	fd, err := unix.Openat(at, e.name, dirFlags|w.noatime(), 0)
	if err == unix.EPERM && w.noatime() != 0 {
		fd, err = unix.Openat(at, e.name, dirFlags, 0)
	}
	switch err {
	case nil:
	case unix.ENOENT:
		e.flags |= gone
		parent.openedOne()
		return w.finished(parent)
	case unix.ENOTDIR, unix.ELOOP:
		defer parent.openedOne()
		s := &segment{dir: parent, loose: true}
		s.pending.Store(1)
		return w.look(s, index)
	default:
		return parent.fault("open", e.name, err)
	}
	w.fds.add(fd)
	parent.openedOne()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return parent.fault("stat", e.name, err)
	}
	d := &dir{
		run: w.run, parent: parent, index: index, name: e.name, depth: parent.depth + 1, ino: st.Ino,
		rules: parent.rules, fd: fd,
	}
	if d.dev, err = w.devices.of(fd, &st); err != nil {
		return parent.fault("statfs", e.name, err)
	}
	return w.opened(d, e)
}

// list reads the names in a directory, and again while it changes.
func (w *worker) list(d *dir) (unix.Stat_t, error) {
	var before, after unix.Stat_t
	if err := unix.Fstat(d.fd, &before); err != nil {
		return before, d.fault("stat", "", err)
	}
	if d.parent != nil && w.o.OneFileSystem && before.Dev != w.root.dev.dev {
		w.notes.add(skipped, d.path())
		return before, nil
	}
	for try := 1; ; try++ {
		if err := w.readNames(d); err != nil {
			return before, err
		}
		if err := unix.Fstat(d.fd, &after); err != nil {
			return before, d.fault("stat", "", err)
		}
		if sameFile(&before, &after) {
			return after, nil
		}
		if try == maxTries {
			name := d.path()
			if name == "" {
				name = "."
			}
			w.notes.add(unsettled, name)
			return after, nil
		}
		before = after
		if _, err := unix.Seek(d.fd, 0, 0); err != nil {
			return before, d.fault("list", "", err)
		}
	}
}

// addSubdir makes an entry a subdirectory that was not one when the directory was listed.
func (d *dir) addSubdir(index int) {
	d.pending.Add(1)
	d.toOpen.Add(1)
	d.push(&lateSubdir{d, index})
}

type lateSubdir struct {
	d     *dir
	index int
}

func (l *lateSubdir) take() (func(*worker) error, bool) {
	return func(w *worker) error {
		l.d.entries[l.index].typ = meta.Dir
		return w.openSubdir(l.d, l.index)
	}, false
}
