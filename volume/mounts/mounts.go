// Package mounts reads what the kernel knows of mounts. Nothing in it asks a file system that is mounted: its server
// may be gone.
//
// Start with [Of], which lists what a process sees mounted, or [IsPoint]. [Boot] names the boot of the machine, which
// no mount outlives.
package mounts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Self is the process that asks.
const Self = "/proc/self"

// Mount is a line of mountinfo (proc_pid_mountinfo(5)), its paths as they are.
type Mount struct {
	ID, Parent     string
	Device         string // major:minor
	Root           string // of what the file system has, that which is shown
	Point          string // where the process sees it
	Type           string // of the file system
	Shared, Master string // peer groups: its own, and the one it follows
}

// Of lists what a process sees mounted, in the order in which it was mounted. The process is given by its directory
// in /proc. The error wraps [fs.ErrNotExist] if it has ended, or is about to and sees nothing any more.
func Of(proc string) (all []Mount, _ error) {
	f, err := os.Open(proc + "/mountinfo")
	if errors.Is(err, unix.EINVAL) { // it has no namespace
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if m, ok := parse(s.Text()); ok {
			all = append(all, m)
		}
	}
	return all, s.Err()
}

// parse reads a line such as
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
func parse(line string) (m Mount, ok bool) {
	front, back, _ := strings.Cut(line, " - ")
	fields, rest := strings.Fields(front), strings.Fields(back)
	if len(fields) < 6 || len(rest) == 0 {
		return m, false
	}
	m = Mount{ID: fields[0], Parent: fields[1], Device: fields[2], Root: unescape(fields[3]), Point: unescape(fields[4]), Type: rest[0]}
	for _, optional := range fields[6:] {
		if group, ok := strings.CutPrefix(optional, "shared:"); ok {
			m.Shared = group
		} else if group, ok := strings.CutPrefix(optional, "master:"); ok {
			m.Master = group
		}
	}
	return m, true
}

// unescape undoes how the kernel writes spaces and the like: as three octal digits.
func unescape(path string) string {
	if !strings.Contains(path, `\`) {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if n, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// At returns what is mounted at a path, on top if there are several. False means nothing is.
func At(dir string) (m Mount, ok bool, err error) {
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(parent, filepath.Base(dir))
	}
	all, err := Of(Self)
	if err != nil {
		return m, false, fmt.Errorf("list mounts: %w", err)
	}
	for _, one := range all {
		if one.Point == dir {
			m, ok = one, true
		}
	}
	return m, ok, nil
}

// IsPoint reports whether something is mounted at a path.
func IsPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, 0, &st)
	if errors.Is(err, unix.ENOTCONN) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Boot names the boot of the machine (random(4)).
func Boot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("which boot this is: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
