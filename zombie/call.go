package zombie

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// call is a system call that a thread is in.
type call struct {
	number int64 // -1: none, or not to be known as the thread is running
	args   []uint64
}

// call reads what a thread waits in: "257 0xffffff9c 0x7f… 0x80000 …", "running", or "-1 …" outside of a call.
func (t thread) call() (call, error) {
	b, err := os.ReadFile(t.dir + "/syscall")
	if err != nil {
		return call{}, noProcess(err)
	}
	return parseCall(string(b))
}

func parseCall(line string) (call, error) {
	c := call{number: -1}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return c, nil
	}
	var err error
	if c.number, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
		return c, fmt.Errorf("system call %q: %w", line, err)
	}
	for _, f := range fields[1:] {
		arg, err := strconv.ParseUint(f, 0, 64)
		if err != nil {
			return c, fmt.Errorf("system call %q: %w", line, err)
		}
		c.args = append(c.args, arg)
	}
	return c, nil
}

// harmless reports whether a call changes neither a file's content nor a name. What is not known to be so is not. One that
// has the disk take what was written before changes nothing of that, and may take long.
func (c call) harmless() bool {
	switch c.number {
	case unix.SYS_OPENAT:
		const flags = 2 // of openat(2), counted from 0
		return len(c.args) > flags && c.args[flags]&(unix.O_CREAT|unix.O_TRUNC|unix.O_TMPFILE&^unix.O_DIRECTORY) == 0
	case unix.SYS_NEWFSTATAT, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2,
		unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_LSEEK,
		unix.SYS_GETXATTR, unix.SYS_LGETXATTR, unix.SYS_FGETXATTR, unix.SYS_LISTXATTR, unix.SYS_LLISTXATTR, unix.SYS_FLISTXATTR,
		unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_PPOLL, unix.SYS_CLOSE, unix.SYS_FUTEX, unix.SYS_MOUNT, unix.SYS_UMOUNT2,
		unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE:
		return true
	}
	return false
}
