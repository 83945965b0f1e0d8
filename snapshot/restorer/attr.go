package restorer

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	special = meta.Setuid | meta.Setgid
)

// past is what is known of something before its attributes are set.
type past struct {
	fresh bool // made by this run
	loose bool // its mode was changed to get at it
	mode  uint16
}

// fix makes the attributes of what h has open those of e, one by one, and reports whether one was another. In
// this order, because a change of owner clears setuid bits and capabilities, and an ACL sets the mode.
func (r *run) fix(h handle, e tree.Entry, was past, path string) (bool, error) {
	st, err := fstat(h.fd)
	if err != nil {
		return false, err
	}
	owned, owner, err := r.fixOwner(h, st, e, path)
	if err != nil {
		return false, err
	}
	xattrs, err := r.fixXattrs(h, e, was.fresh, path)
	if err != nil {
		return false, err
	}
	mode, err := r.fixMode(h, st, e, owned, xattrs || owner && (st.Mode|uint32(e.Mode))&special != 0, path)
	if err != nil {
		return false, err
	}
	if was.loose {
		mode = was.mode != e.Mode
	}
	mtime := false
	if got := st.Mtim; got.Sec != e.Sec || got.Nsec != int64(e.Nsec) {
		mtime = true
		if err := r.allowed(h.setMtime(e.Sec, e.Nsec), OmitMtime, path); err != nil {
			return false, err
		}
	}
	return owner || xattrs || mode || mtime, nil
}

// allowed turns what the system does not let the caller do into a line of the report.
func (r *run) allowed(err error, kind OmissionKind, path string) error {
	if refused(err) {
		r.tally.omit(kind, false, path)
		return nil
	}
	return err
}

func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)
}

// fixOwner reports whether the owner is now the right one, and whether it was another.
func (r *run) fixOwner(h handle, st *unix.Stat_t, e tree.Entry, path string) (owned, changed bool, err error) {
	if st.Uid == e.UID && st.Gid == e.GID {
		return true, false, nil
	}
	err = h.chown(int(e.UID), int(e.GID))
	if err == nil {
		return true, true, nil
	}
	// An ID that the user namespace does not have is EINVAL.
	if !refused(err) && err != unix.EINVAL {
		return false, false, err
	}
	r.tally.omit(OmitOwner, false, path)
	if st.Gid != e.GID && h.chown(-1, int(e.GID)) == nil {
		return false, true, nil // a group the caller is a member of
	}
	return false, false, nil
}

// fixMode sets permissions, also if st is stale and may only seem to have them. With another owner than the
// snapshot's, setuid and setgid would give away the rights of the wrong user.
func (r *run) fixMode(h handle, st *unix.Stat_t, e tree.Entry, owned, stale bool, path string) (bool, error) {
	if e.Type == meta.Symlink {
		return false, nil
	}
	want := uint32(e.Mode)
	if !owned && want&special != 0 {
		r.tally.omit(OmitSetuid, false, path)
		want &^= special
	}
	got := st.Mode & meta.ModeMask
	if got == want && !stale {
		return false, nil
	}
	return got != want, r.allowed(h.chmod(want), OmitMode, path)
}

// fixXattrs sets the entry's xattrs and removes others, as far as they are a restore's business.
func (r *run) fixXattrs(h handle, e tree.Entry, fresh bool, path string) (bool, error) {
	if fresh && len(e.Xattrs) == 0 && !e.XattrsAt.Defined() {
		return false, nil
	}
	want, err := r.wantedXattrs(e, path)
	if err != nil {
		return false, err
	}
	changed := false
	if !fresh {
		if changed, err = r.removeXattrs(h, want, path); err != nil {
			return false, err
		}
	}
	for _, x := range want {
		if !fresh {
			if got, err := h.getXattr(x.Name); err == nil && bytes.Equal(got, x.Value) {
				continue
			}
		}
		if err := r.allowed(h.setXattr(x.Name, x.Value), OmitXattr, path); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}

// wantedXattrs are the entry's, without those that a foreign snapshot does not get.
func (r *run) wantedXattrs(e tree.Entry, path string) ([]meta.Xattr, error) {
	all, err := r.s.Xattrs(r.ctx, e)
	if err != nil || !r.o.Foreign || r.o.Privileged {
		return all, err
	}
	var kept []meta.Xattr
	for _, x := range all {
		if !harmful(x.Name) {
			kept = append(kept, x)
		}
	}
	if len(kept) < len(all) {
		r.tally.omit(OmitXattr, true, path)
	}
	return kept, nil
}

// harmful reports whether an xattr means something to the kernel or to privileged programs.
func harmful(name string) bool {
	return !strings.HasPrefix(name, "user.") && name != aclAccess && name != aclDefault
}

// removeXattrs removes those that are not wanted. Labels that the system gives to files by itself stay.
func (r *run) removeXattrs(h handle, want []meta.Xattr, path string) (bool, error) {
	names, err := h.listXattrs()
	if err == unix.EOPNOTSUPP {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	changed := false
	for _, name := range names {
		if r.keepsXattr(name, want) {
			continue
		}
		if err := h.removeXattr(name); err == nil {
			changed = true
		} else if err != unix.ENODATA {
			if err := r.allowed(err, OmitXattr, path); err != nil {
				return false, err
			}
		}
	}
	return changed, nil
}

func (r *run) keepsXattr(name string, want []meta.Xattr) bool {
	for _, x := range want {
		if x.Name == name {
			return true
		}
	}
	switch name {
	case "security.selinux", "security.ima", "security.evm":
		return true
	case aclAccess, aclDefault:
		return false
	}
	known := strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.")
	return !known || harmful(name) && r.o.Foreign && !r.o.Privileged
}

// dropACLs removes what a new file or directory inherited.
func dropACLs(h handle, names ...string) error {
	for _, name := range names {
		if err := h.removeXattr(name); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return nil
}
