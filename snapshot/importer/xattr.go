package importer

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

// target is where extended attributes are read from: an open file, or a path that is not followed.
type target struct {
	fd   int
	path string
}

func fdTarget(fd int) target { return target{fd: fd} }

// entryTarget reaches an entry that cannot be opened, a symlink or a device, by its directory's descriptor.
func entryTarget(at int, name string) target {
	return target{path: "/proc/self/fd/" + strconv.Itoa(at) + "/" + name}
}

func (t target) list(b []byte) (int, error) {
	if t.path != "" {
		return unix.Llistxattr(t.path, b)
	}
	return unix.Flistxattr(t.fd, b)
}

func (t target) get(name string, b []byte) (int, error) {
	if t.path != "" {
		return unix.Lgetxattr(t.path, name, b)
	}
	return unix.Fgetxattr(t.fd, name, b)
}

// captured are the attributes that a snapshot holds, by their prefixes (xattr(7)).
func captured(name string) bool {
	for _, p := range []string{"user.", "security.", "trusted."} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// xattrs reads the extended attributes, in byte order of their names, and the names of those that a snapshot
// does not hold. A file system that has none, and an attribute that the caller may not read, are no error.
func (w *worker) xattrs(t target) (xs []meta.Xattr, uncaptured []string, _ error) {
	list, err := grow(w.scratch, t.list)
	switch err {
	case nil:
	case unix.ENOTSUP: // not all of its device need be so: an overlay answers for the layer that has the file
		return nil, nil, nil
	case unix.EPERM, unix.EACCES:
		return nil, nil, nil
	default:
		return nil, nil, err
	}
	if len(list) == 0 {
		return nil, nil, nil
	}
	for _, raw := range bytes.Split(bytes.TrimSuffix(bytes.Clone(list), []byte{0}), []byte{0}) {
		name := string(raw)
		if !w.hooks.captured(name) {
			uncaptured = append(uncaptured, name)
			continue
		}
		value, err := grow(w.scratch, func(b []byte) (int, error) { return t.get(name, b) })
		switch err {
		case nil:
			xs = append(xs, meta.Xattr{Name: name, Value: bytes.Clone(value)})
		case unix.ENODATA, unix.ENOTSUP, unix.EPERM, unix.EACCES:
		default:
			return nil, nil, err
		}
	}
	w.noteUncaptured(uncaptured)
	slices.SortFunc(xs, func(a, b meta.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xs, uncaptured, nil
}

func (w *worker) noteUncaptured(names []string) {
	for _, name := range names {
		w.notes.add(uncaptured, name)
	}
}

// grow calls read with b, and with more room as long as that is too little.
func grow(b []byte, read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(b)
		switch {
		case err == unix.ERANGE && len(b) < 1<<20:
			b = make([]byte, 2*len(b))
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		default:
			return b[:n], nil
		}
	}
}
