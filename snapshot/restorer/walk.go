package restorer

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// walk restores what is in a directory and below. It makes the directories itself and gives everything else
// to the workers.
func (r *run) walk(d *dir, depth int) error {
	var names []string // what the target has
	if !d.fresh {
		var err error
		if names, err = readNames(d.fd); err != nil {
			return r.at(d, "", err)
		}
	}
	b := &batch{r: r, d: d}
	for e, err := range r.s.Entries(r.ctx, d.entry) {
		if err == nil {
			err = r.budget.Entry(depth)
		}
		if err == nil {
			err = r.ctx.Err()
		}
		if err != nil {
			return r.at(d, "", err)
		}
		for len(names) > 0 && names[0] < e.Name {
			if err := r.surplus(d, names[0]); err != nil {
				return err
			}
			names = names[1:]
		}
		exists := len(names) > 0 && names[0] == e.Name
		if exists {
			names = names[1:]
		}
		if err := r.entry(b, e, exists, depth); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := r.surplus(d, name); err != nil {
			return err
		}
	}
	return b.flush()
}

func (r *run) entry(b *batch, e tree.Entry, exists bool, depth int) error {
	if !r.admit(&e, b.d) {
		return nil
	}
	if !e.IsDir() {
		return b.add(e, exists)
	}
	sub, err := r.enter(b.d, e, exists)
	if err != nil {
		return err
	}
	err = r.walk(sub, depth+1)
	if err2 := r.release(sub); err == nil {
		err = err2
	}
	return err
}

// admit drops from a foreign snapshot's entry what could do harm here, and says whether anything is left.
func (r *run) admit(e *tree.Entry, d *dir) bool {
	if !r.o.Foreign || r.o.Privileged {
		return true
	}
	switch {
	case e.Type == meta.CharDevice || e.Type == meta.BlockDevice:
		r.tally.omit(OmitDevice, true, tree.Join(d.path, e.Name))
		return false
	case e.Mode&(meta.Setuid|meta.Setgid) != 0:
		r.tally.omit(OmitSetuid, true, tree.Join(d.path, e.Name))
		e.Mode &^= meta.Setuid | meta.Setgid
	}
	return true
}

// surplus deals with a name that the snapshot does not have.
func (r *run) surplus(d *dir, name string) error {
	if !r.o.Delete && !strings.HasPrefix(name, TempPrefix) {
		r.tally.extra.Add(1)
		return nil
	}
	if _, err := r.removeAll(d.fd, name, tree.Join(d.path, name)); err != nil {
		return r.at(d, name, fmt.Errorf("remove: %w", err))
	}
	return nil
}

// removeFile unlinks what is no directory.
func (r *run) removeFile(dir int, name string) error {
	if err := r.step(StepRemove); err != nil {
		return err
	}
	return retry(func() error { return unix.Unlinkat(dir, name, 0) })
}

// removeAll removes a name and everything below it, following no symlink and entering no other filesystem. It
// reports whether all is gone.
func (r *run) removeAll(dir int, name, path string) (bool, error) {
	if err := r.ctx.Err(); err != nil {
		return false, err
	}
	err := r.removeFile(dir, name)
	if err != unix.EISDIR && err != unix.EPERM {
		if err == nil {
			r.tally.removed.Add(1)
		}
		return err == nil, err
	}
	fd, _, openErr := r.openShut(dir, name, unix.O_DIRECTORY)
	if openErr == unix.ENOTDIR {
		return false, err
	}
	if openErr != nil {
		return false, openErr
	}
	defer unix.Close(fd)
	mounted, err := r.emptyDir(dir, fd, path)
	if mounted || err != nil {
		return false, err
	}
	if err := retry(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) }); err != nil {
		return false, err
	}
	r.tally.removed.Add(1)
	return true, nil
}

// emptyDir removes everything in the directory fd, which is in parent. It reports whether something is left
// because a filesystem is mounted there.
func (r *run) emptyDir(parent, fd int, path string) (mounted bool, err error) {
	above, err := fstat(parent)
	if err != nil {
		return false, err
	}
	st, err := fstat(fd)
	if err != nil {
		return false, err
	}
	if st.Dev != above.Dev {
		r.tally.omit(OmitMount, false, path)
		return true, nil
	}
	if !r.privileged && st.Mode&0o700 != 0o700 {
		// If it cannot be made writable, removing what is in it says so.
		_ = handle{fd: fd}.chmod(st.Mode&meta.ModeMask | 0o700)
	}
	names, err := readNames(fd)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		gone, err := r.removeAll(fd, name, tree.Join(path, name))
		if err != nil {
			return mounted, err
		}
		mounted = mounted || !gone
	}
	return mounted, nil
}
