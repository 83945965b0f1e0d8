package view

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
)

const fsName = "volary" // and the second half of the type, which other packages know

// readAheadKB is how far the kernel reads ahead. What it says when mounting is at most 128.
const readAheadKB = 1024

// ErrNoHelper says that a user who may not mount has no program that may.
var ErrNoHelper = errors.New("fusermount3 is not installed")

// Mount shows a snapshot at dir and returns once it can be read. Root mounts by itself, others by fusermount3.
func Mount(ctx context.Context, s *tree.Snapshot, dir string, o Options) (*Server, error) {
	srv, err := mount(ctx, s, dir, o)
	if err != nil {
		return nil, fmt.Errorf("mount %s at %s: %w", s.CID, dir, err)
	}
	if o.Keep != nil {
		if err := o.Keep(srv.conn); err != nil {
			return nil, errors.Join(err, srv.conn.Close(), Unmount(dir))
		}
	}
	srv.serve()
	declinePolls(dir)
	return srv, nil
}

// declinePolls has the kernel ask whether files can be polled, and learn that they cannot. The runtime polls the
// files that a program opens, without leaving a processor to its other goroutines: a program that opens a file
// in a mount it serves itself would wait for itself. go-fuse knows a file by this name, which is in no listing.
func declinePolls(dir string) {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

// Attach is Mount without a server: whoever reads in the mount waits until another process has called Resume.
func Attach(ctx context.Context, s *tree.Snapshot, dir string, o Options) (Connection, error) {
	srv, err := mount(ctx, s, dir, o)
	if err != nil {
		return Connection{}, fmt.Errorf("mount %s at %s: %w", s.CID, dir, err)
	}
	return srv.conn, nil
}

func mount(ctx context.Context, s *tree.Snapshot, dir string, o Options) (_ *Server, err error) {
	c := Connection{}
	fd, err := unix.MemfdCreate("volary-numbers", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a table of numbers: %w", err)
	}
	c.Table = os.NewFile(uintptr(fd), "numbers")
	// Whether the snapshot can be shown is known before anything is mounted.
	sl, err := openSlots(c.Table)
	if err == nil {
		_, err = newView(ctx, s, o, sl)
	}
	if err == nil {
		c.Device, err = attach(ctx, dir, o)
	}
	if err != nil {
		c.Table.Close()
		return nil, err
	}
	srv, err := handshake(ctx, s, c, o)
	if err != nil {
		c.Close()
		return nil, errors.Join(err, Unmount(dir))
	}
	raiseReadAhead(dir)
	return srv, nil
}

// handshake takes the kernel's first request and answers it.
func handshake(ctx context.Context, s *tree.Snapshot, c Connection, o Options) (*Server, error) {
	b, err := buffer()
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(b)
	n := 0
	for {
		if n, err = syscall.Read(int(c.Device.Fd()), b); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the kernel's first request: %w", err)
	}
	c.Init = append([]byte(nil), b[:n]...)
	srv, err := newServer(ctx, s, c, o)
	if err != nil {
		return nil, err
	}
	answer, err := srv.greet(c.Init)
	if err != nil {
		return nil, err
	}
	if _, err := syscall.Write(srv.fd, answer); err != nil {
		return nil, fmt.Errorf("answer the kernel's first request: %w", err)
	}
	return srv, nil
}

// attach mounts, and returns the device that the requests come from.
func attach(ctx context.Context, dir string, o Options) (*os.File, error) {
	if os.Geteuid() != 0 {
		return attachByHelper(ctx, dir, o)
	}
	// Not os.OpenFile: reads must block, and not by way of the runtime's poller.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	dev := os.NewFile(uintptr(fd), "/dev/fuse")
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOATIME)
	if o.Foreign {
		flags |= unix.MS_NOSUID | unix.MS_NODEV
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,max_read=%d", fd, os.Geteuid(), os.Getegid(), maxRead)
	if o.AllowOther {
		options += ",default_permissions,allow_other"
	}
	if err := unix.Mount(fsName, dir, "fuse."+fsName, flags, options); err != nil {
		dev.Close()
		return nil, err
	}
	return dev, nil
}

// attachByHelper has fusermount3 mount, which sends the device over a socket.
func attachByHelper(ctx context.Context, dir string, o Options) (*os.File, error) {
	helper, err := helperPath()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	options := fmt.Sprintf("ro,noatime,nosuid,nodev,max_read=%d,fsname=%s,subtype=%s", maxRead, fsName, fsName)
	if o.AllowOther {
		options += ",default_permissions,allow_other"
	}
	cmd := exec.CommandContext(ctx, helper, "-o", options, "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, helperError(out, err)
	}
	return receive(pair[0])
}

func helperPath() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoHelper
}

// helperError says what fusermount3 said, in one line.
func helperError(out []byte, err error) error {
	if line := strings.Join(strings.Fields(string(out)), " "); line != "" {
		return errors.New(line)
	}
	return fmt.Errorf("fusermount3: %w", err)
}

// receive takes a descriptor from a socket.
func receive(socket int) (*os.File, error) {
	buf, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive the device from fusermount3: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.New("fusermount3 sent no device")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("fusermount3 sent no device")
	}
	return os.NewFile(uintptr(fds[0]), "/dev/fuse"), nil
}

// Unmount ends a mount. It wraps EBUSY if the mount is in use, EINVAL if there is none.
func Unmount(dir string) error { return unmount(dir, unix.UMOUNT_NOFOLLOW, "-u") }

// Detach takes a mount out of sight. What is in use of it stays usable, and has to be served, until it is closed.
func Detach(dir string) error { return unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH, "-uz") }

func unmount(dir string, flags int, helperFlags string) error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(dir, flags); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return nil
	}
	helper, err := helperPath()
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	out, err := exec.Command(helper, helperFlags, "--", dir).CombinedOutput()
	switch {
	case err == nil:
		return nil
	case strings.Contains(string(out), "busy"): // it has but one exit code
		return fmt.Errorf("unmount %s: %w", dir, unix.EBUSY)
	}
	return fmt.Errorf("unmount %s: %w", dir, helperError(out, err))
}

// raiseReadAhead lets the kernel read further ahead, where it allows it. The mount need not be served yet.
func raiseReadAhead(dir string) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, 0, &st) != nil {
		return
	}
	bdi := fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor)
	os.WriteFile(filepath.Join("/sys/class/bdi", bdi, "read_ahead_kb"), []byte(strconv.Itoa(readAheadKB)), 0)
}
