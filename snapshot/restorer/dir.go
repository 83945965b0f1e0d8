package restorer

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// dir is a directory of the target that is open while something in it is being restored. When the last use
// ends its attributes are set, so that a directory's mtime comes after its content.
type dir struct {
	fd     int
	path   string // relative to the target
	parent *dir
	entry  tree.Entry
	past        // if it is fresh there was nothing in it
	acl    bool // has a default ACL, which what is made in it inherits

	// Both are changed under run.mu.
	active int // the walk, batches and directories below that use fd
	links  int // hardlinks to be made in it, and parked directories below
}

// enter opens or makes the directory e in d. Whatever else has its name is replaced.
func (r *run) enter(d *dir, e tree.Entry, exists bool) (*dir, error) {
	sub := &dir{fd: -1, path: tree.Join(d.path, e.Name), parent: d, entry: e, active: 1}
	if exists {
		fd, was, err := r.openShut(d.fd, e.Name, unix.O_DIRECTORY)
		switch err {
		case nil:
			sub.fd, sub.past = fd, was
		case unix.ENOTDIR, unix.ELOOP:
			if err := r.removeFile(d.fd, e.Name); err != nil {
				return nil, r.at(d, e.Name, err)
			}
		case unix.ENOENT:
		default:
			return nil, r.at(d, e.Name, err)
		}
	}
	if sub.fd < 0 {
		if err := r.mkdir(d, sub); err != nil {
			return nil, r.at(d, e.Name, err)
		}
	}
	if err := r.inspect(sub); err != nil {
		unix.Close(sub.fd)
		return nil, r.at(d, e.Name, err)
	}
	r.hold(d)
	if sub.fresh {
		r.tally.made.Add(1)
	}
	r.o.Progress.Entries.Add(1)
	return sub, nil
}

// mkdir makes a directory that only its owner can enter until its attributes are set.
func (r *run) mkdir(d, sub *dir) error {
	if err := r.step(StepMkdir); err != nil {
		return err
	}
	mode := uint32(0o700)
	if !sub.entry.HasMeta {
		mode = uint32(sub.entry.Mode) // and the umask
	}
	name := sub.entry.Name
	if err := retry(func() error { return unix.Mkdirat(d.fd, name, mode) }); err != nil {
		return err
	}
	sub.fresh = true
	fd, err := openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	sub.fd = fd
	if d.acl && sub.entry.HasMeta {
		return dropACLs(handle{fd: fd}, aclDefault, aclAccess)
	}
	return nil
}

// inspect learns what matters about an open directory, and makes it writable for its owner. A filesystem that
// is met for the first time is noted for the sync.
func (r *run) inspect(d *dir) error {
	st, err := fstat(d.fd)
	if err != nil {
		return err
	}
	if _, known := r.devices[st.Dev]; !known {
		fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		r.devices[st.Dev] = fd
	}
	if d.fresh {
		return nil
	}
	acl, err := handle{fd: d.fd}.getXattr(aclDefault)
	d.acl = err == nil && len(acl) > 0
	if mode := uint16(st.Mode & meta.ModeMask); !r.privileged && mode&0o700 != 0o700 {
		// Somebody else's directory stays as it is; what has to be written in it will say so.
		d.mode, d.loose = mode, handle{fd: d.fd}.chmod(uint32(mode|0o700)) == nil
	}
	return nil
}

// openShut opens a file or directory that is there for reading, also one that its owner, the caller, shut
// himself out of.
func (r *run) openShut(parent int, name string, flags int) (int, past, error) {
	// Looking does not change the time of the last access, where the kernel lets the caller ask for that.
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME|flags, 0)
	if err == unix.EPERM {
		fd, err = openat(parent, name, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	}
	if err != unix.EACCES || r.privileged {
		return fd, past{}, err
	}
	seen, err := openat(parent, name, unix.O_PATH|flags, 0)
	if err != nil {
		return -1, past{}, err
	}
	defer unix.Close(seen)
	st, err := fstat(seen)
	if err != nil {
		return -1, past{}, err
	}
	was := past{loose: true, mode: uint16(st.Mode & meta.ModeMask)}
	if (handle{fd: seen, path: true}).chmod(uint32(was.mode|0o700)) != nil {
		return -1, past{}, unix.EACCES
	}
	fd, err = openat(parent, name, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	return fd, was, err
}

// reopen opens a directory of the target by its path, one component at a time. The caller closes it.
func (r *run) reopen(path string) (int, error) {
	fd, err := unix.FcntlInt(uintptr(r.lock), unix.F_DUPFD_CLOEXEC, 0)
	if path == "" || err != nil {
		return fd, err
	}
	for name := range strings.SplitSeq(path, "/") {
		next, err := openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// hold keeps d open until it is released once more.
func (r *run) hold(d *dir) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.active++
}

// release ends a use of d. After the last one its attributes are set; if hardlinks are still to be made in it
// or below, that is put off and the directory is parked.
func (r *run) release(d *dir) error {
	var first error
	for d != nil {
		r.mu.Lock()
		d.active--
		last, park := d.active == 0, d.links > 0
		if last && park {
			r.parked = append(r.parked, d)
			if d.parent != nil {
				d.parent.links++
			}
		}
		r.mu.Unlock()
		if !last {
			break
		}
		if !park && r.ctx.Err() == nil && first == nil {
			first = r.finish(d)
		}
		unix.Close(d.fd)
		d.fd = -1
		d = d.parent
	}
	return first
}

// finish sets the attributes of a directory whose content is complete.
func (r *run) finish(d *dir) error {
	changed, err := r.finishAttrs(d)
	if err != nil {
		return r.at(d, "", err)
	}
	switch {
	case d.fresh: // counted when it was made
	case changed:
		r.tally.adjusted.Add(1)
	default:
		r.tally.unchanged.Add(1)
	}
	return nil
}

func (r *run) finishAttrs(d *dir) (changed bool, err error) {
	h := handle{fd: d.fd}
	if !d.entry.HasMeta {
		if d.loose {
			return false, h.chmod(uint32(d.mode))
		}
		return false, nil
	}
	if err := r.step(StepAttrs); err != nil {
		return false, err
	}
	return r.fix(h, d.entry, d.past, d.path)
}
