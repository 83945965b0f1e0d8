package restorer

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// errRefused says that the system does not let the caller make a special file; the report has it.
var errRefused = errors.New("not allowed")

// makeSpecial makes a symlink, device, fifo or socket under a name that does not exist, and leaves nothing if
// it fails.
func (r *run) makeSpecial(d *dir, name string, e tree.Entry) error {
	if err := r.step(StepSpecial); err != nil {
		return err
	}
	err := retry(func() error {
		if e.Type == meta.Symlink {
			return unix.Symlinkat(e.Target, d.fd, name)
		}
		return unix.Mknodat(d.fd, name, fileType(e.Type)|uint32(e.Mode&0o777), int(unix.Mkdev(e.Major, e.Minor)))
	})
	device := e.Type == meta.CharDevice || e.Type == meta.BlockDevice
	if device && refused(err) {
		r.tally.omit(OmitDevice, false, tree.Join(d.path, e.Name))
		return errRefused
	}
	if err != nil || !e.HasMeta {
		return err
	}
	if err := r.fixSpecial(d, name, e); err != nil {
		_ = unix.Unlinkat(d.fd, name, 0) // the error is the one to tell
		return err
	}
	return nil
}

// fixSpecial sets the attributes of something that must not be opened: a fifo would wait, a device act.
func (r *run) fixSpecial(d *dir, name string, e tree.Entry) error {
	fd, err := openat(d.fd, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	h := handle{fd: fd, path: true}
	if d.acl && e.Type != meta.Symlink {
		if err := dropACLs(h, aclAccess); err != nil {
			return err
		}
	}
	if err := r.step(StepAttrs); err != nil {
		return err
	}
	_, err = r.fix(h, e, past{fresh: true}, tree.Join(d.path, e.Name))
	return err
}
