package restorer

import (
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// retry calls f again when a signal interrupted it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func retryFD(f func() (int, error)) (fd int, err error) {
	err = retry(func() error { fd, err = f(); return err })
	return fd, err
}

// openat opens one name in a directory, never through a symlink.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	return retryFD(func() (int, error) {
		return unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
}

func fstatat(dir int, name string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := retry(func() error { return unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func fstat(fd int) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := retry(func() error { return unix.Fstat(fd, st) })
	return st, err
}

// readNames returns the sorted names in a directory that was just opened.
func readNames(fd int) ([]string, error) {
	buf := make([]byte, 64<<10)
	var names []string
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.ReadDirent(fd, buf); return err })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func pwrite(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// pread fills p; a file that ends before is false.
func pread(fd int, p []byte, offset int64) (bool, error) {
	for len(p) > 0 {
		n, err := unix.Pread(fd, p, offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return false, err
		case n == 0:
			return false, nil
		}
		p, offset = p[n:], offset+int64(n)
	}
	return true, nil
}

// handle is an open file, directory, symlink or special file whose attributes are to be read and set.
type handle struct {
	fd   int
	path bool // opened with O_PATH, so that opening it did nothing
}

// proc is a name for what the handle has open that no other process can redirect.
func (h handle) proc() string { return "/proc/self/fd/" + strconv.Itoa(h.fd) }

func (h handle) chown(uid, gid int) error {
	return retry(func() error { return unix.Fchownat(h.fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

func (h handle) chmod(mode uint32) error {
	return retry(func() error {
		if h.path {
			return unix.Chmod(h.proc(), mode)
		}
		return unix.Fchmod(h.fd, mode)
	})
}

// setMtime leaves the access time as it is.
func (h handle) setMtime(sec int64, nsec uint32) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: int64(nsec)}}
	return retry(func() error {
		if h.path {
			return unix.UtimesNanoAt(h.fd, "", ts, unix.AT_EMPTY_PATH)
		}
		// A null path means the descriptor itself (utimensat(2)); the package unix has no function for it.
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(h.fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

func (h handle) setXattr(name string, value []byte) error {
	if h.path {
		return unix.Setxattr(h.proc(), name, value, 0)
	}
	return unix.Fsetxattr(h.fd, name, value, 0)
}

func (h handle) removeXattr(name string) error {
	if h.path {
		return unix.Removexattr(h.proc(), name)
	}
	return unix.Fremovexattr(h.fd, name)
}

func (h handle) getXattr(name string) ([]byte, error) {
	return sized(func(p []byte) (int, error) {
		if h.path {
			return unix.Getxattr(h.proc(), name, p)
		}
		return unix.Fgetxattr(h.fd, name, p)
	})
}

func (h handle) listXattrs() ([]string, error) {
	list, err := sized(func(p []byte) (int, error) {
		if h.path {
			return unix.Listxattr(h.proc(), p)
		}
		return unix.Flistxattr(h.fd, p)
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), nil
}

// sized calls f with a buffer that is large enough.
func sized(f func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := f(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		if n, err = f(buf); err != unix.ERANGE {
			return buf[:max(n, 0)], err
		}
	}
}
