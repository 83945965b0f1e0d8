package modeltest

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Kinds of operations that need a handle.
const (
	kindHold = "hold" // open and map a file, and keep it so
	kindHeld = "held" // write or store to one that is kept
)

// act is an operation on one of the directories.
type act struct {
	Op
	pair   *Pair
	side   int
	root   string
	handle *handle
}

type action func(*act) error

func (x *act) path() string { return x.root + "/" + x.Path }
func (x *act) to() string   { return x.root + "/" + x.To }

// actions are what can be done, by kind. All are done as programs do them, by system calls.
func actions() map[string]action {
	return map[string]action{
		"create":   func(x *act) error { return x.writeFile(unix.O_RDWR|unix.O_CREAT|int(x.Off), 0) },
		"write":    func(x *act) error { return x.writeFile(unix.O_RDWR, x.Off) },
		"append":   func(x *act) error { return x.writeFile(unix.O_WRONLY|unix.O_APPEND, -1) },
		"sparse":   func(x *act) error { return x.writeFile(unix.O_RDWR|unix.O_CREAT, x.Off) },
		"truncate": func(x *act) error { return unix.Truncate(x.path(), x.Len) },
		"punch":    func(x *act) error { return x.fallocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE) },
		"zero":     func(x *act) error { return x.fallocate(unix.FALLOC_FL_ZERO_RANGE) },
		"allocate": func(x *act) error { return x.fallocate(0) },
		"copy":     (*act).copy,
		"tmpfile":  (*act).tmpfile,
		"mkdir":    func(x *act) error { return unix.Mkdir(x.path(), x.Mode) },
		"link":     func(x *act) error { return unix.Linkat(unix.AT_FDCWD, x.path(), unix.AT_FDCWD, x.to(), 0) },
		"symlink":  func(x *act) error { return unix.Symlink(x.Value, x.path()) },
		"mknod":    func(x *act) error { return unix.Mknod(x.path(), x.Mode, int(x.Off)) },
		"unlink":   func(x *act) error { return unix.Unlink(x.path()) },
		"rmdir":    func(x *act) error { return unix.Rmdir(x.path()) },
		"remove":   func(x *act) error { return removeAll(x.path()) },
		"rename": func(x *act) error {
			return unix.Renameat2(unix.AT_FDCWD, x.path(), unix.AT_FDCWD, x.to(), uint(x.Mode))
		},
		"chmod": func(x *act) error { return unix.Fchmodat(unix.AT_FDCWD, x.path(), x.Mode, 0) },
		"chown": func(x *act) error { return unix.Lchown(x.path(), int(x.Off), int(x.Len)) },
		"times": func(x *act) error {
			t := unix.NsecToTimespec(x.Off)
			return unix.UtimesNanoAt(unix.AT_FDCWD, x.path(), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
		},
		"setxattr":    func(x *act) error { return unix.Lsetxattr(x.path(), x.Name, []byte(x.Value), 0) },
		"removexattr": func(x *act) error { return unix.Lremovexattr(x.path(), x.Name) },
		"unlinked":    (*act).unlinked,
		"open":        (*act).open,
		"stat":        func(x *act) error { return unix.Stat(x.path(), new(unix.Stat_t)) },
		"access":      func(x *act) error { return unix.Access(x.path(), x.Mode) },
		"readlink": func(x *act) error {
			_, err := unix.Readlink(x.path(), make([]byte, 100))
			return err
		},
		"list": func(x *act) error {
			_, err := readNames(x.path())
			return err
		},
		"getxattr": func(x *act) error {
			_, err := unix.Lgetxattr(x.path(), x.Name, make([]byte, 100))
			return err
		},
		kindHold: (*act).hold,
		kindHeld: (*act).held,
	}
}

// writeFile opens and writes Len bytes; a negative offset is for files that say themselves where.
func (x *act) writeFile(flags int, off int64) error {
	fd, err := unix.Open(x.path(), flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, x.Mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeAt(fd, content(x.Seed, x.Len), off)
}

// open opens with the flags that Off is.
func (x *act) open() error {
	fd, err := unix.Open(x.path(), int(x.Off)|unix.O_CLOEXEC|unix.O_NONBLOCK, x.Mode)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func writeAt(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		var n int
		var err error
		if off < 0 {
			n, err = unix.Write(fd, data)
		} else {
			n, err = unix.Pwrite(fd, data, off)
			off += int64(n)
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (x *act) fallocate(mode uint32) error {
	fd, err := unix.Open(x.path(), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if x.side == 1 && mode&unix.FALLOC_FL_PUNCH_HOLE == 0 {
		x.pair.filled[st.Ino] = true
	}
	return unix.Fallocate(fd, mode, x.Off, x.Len)
}

// copy copies a range from one file to another, as cp(1) does: where the kernel cannot, by reading and writing.
func (x *act) copy() error {
	from, err := unix.Open(x.path(), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Open(x.to(), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	data := make([]byte, x.Len)
	n, err := unix.Pread(from, data, x.Off)
	if err != nil || n == 0 {
		// Something is written, for a mere opening of a file for writing may show in its time, or not.
		data, n = []byte("x"), 1
		return writeAt(to, data[:n], 0)
	}
	in, out := x.Off, int64(0)
	if done, err := unix.CopyFileRange(from, &in, to, &out, n, 0); err == nil && done == n {
		return nil
	}
	return writeAt(to, data[:n], 0)
}

// tmpfile writes a file that has no name, and gives it one if there is a To.
func (x *act) tmpfile() error {
	fd, err := unix.Open(path.Dir(x.path()), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, x.Mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeAt(fd, content(x.Seed, x.Len), 0); err != nil || x.To == "" {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, x.to(), unix.AT_SYMLINK_FOLLOW)
}

// unlinked writes to a file whose name is gone.
func (x *act) unlinked() error {
	fd, err := unix.Open(x.path(), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlink(x.path()); err != nil {
		return err
	}
	return writeAt(fd, []byte("after the end"), x.Off)
}

// hold opens and maps a file, and stores one byte. Nonzero Mode syncs it.
func (x *act) hold() error {
	fd, err := unix.Open(x.path(), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	x.handle.fd[x.side] = fd
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Size == 0 {
		return writeAt(fd, []byte{byte(x.Seed)}, 0)
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	x.handle.mem[x.side] = mem
	x.store(st)
	if x.Mode == 0 {
		return nil
	}
	return unix.Msync(mem, unix.MS_SYNC)
}

func (x *act) store(st unix.Stat_t) {
	mem := x.handle.mem[x.side]
	at := x.Off % int64(len(mem))
	if at >= (st.Size+4095)&^4095 {
		return // beyond the end of a file that was cut is SIGBUS
	}
	mem[at] ^= byte(x.Seed) | 1
	if x.side == 1 {
		x.pair.mapped[st.Ino] = true
	}
}

// held writes or stores to a file that was opened earlier, whatever its name is by now.
func (x *act) held() error {
	if x.handle == nil || x.handle.fd[x.side] < 0 {
		return nil
	}
	fd := x.handle.fd[x.side]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if x.Mode != 0 || x.handle.mem[x.side] == nil {
		return writeAt(fd, content(x.Seed, 3), x.Off%70_000)
	}
	x.store(st)
	return nil
}

// removeAll removes a directory with all that is in it; unlike os.RemoveAll it says which error there was.
func removeAll(path string) error {
	err := unix.Unlink(path)
	if err != unix.EISDIR {
		return err
	}
	names, err := readNames(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(path + "/" + name); err != nil {
			return err
		}
	}
	return unix.Rmdir(path)
}
