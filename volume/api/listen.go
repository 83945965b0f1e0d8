package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// SocketMode are the permissions of the socket: whoever can connect can do everything the API offers.
const SocketMode = 0o660

// maxSocketPath is what sockaddr_un (unix(7)) has room for, with the final NUL.
const maxSocketPath = 107

// liveTimeout is how long a daemon may take to accept before a socket counts as unknown.
const liveTimeout = 2 * time.Second

// ErrLive says that a daemon listens on a socket already.
var ErrLive = errors.New("another daemon is listening")

func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket path %s has %d bytes, the system takes at most %d: %w\nchoose a shorter home directory",
			path, len(path), maxSocketPath, syscall.ENAMETOOLONG)
	}
	return nil
}

// Listen makes the daemon's socket, of mode [SocketMode] and group gid; a negative gid leaves the group as it
// is. Nobody can connect before the permissions are right. The socket of a dead daemon is replaced, one that
// is alive is refused with [ErrLive]; of two that start at once the caller's lock on the store lets one get
// here. Close removes the socket.
func Listen(path string, gid int) (net.Listener, error) {
	l, err := listen(path, gid)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func listen(path string, gid int) (_ *socket, err error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	if err := checkDead(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".socket-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	dir, err := os.Open(private)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// The detour by the descriptor's name keeps the private directory's longer path out of the address.
	bound := fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if gid >= 0 {
		if err := os.Chown(bound, -1, gid); err != nil {
			return nil, fmt.Errorf("give the socket to group %d: %w", gid, err)
		}
	}
	if err := os.Chmod(bound, SocketMode); err != nil {
		return nil, err
	}
	made, err := os.Lstat(bound)
	if err != nil {
		return nil, err
	}
	if err := place(filepath.Join(private, "s"), path); err != nil {
		return nil, err
	}
	return &socket{UnixListener: l, path: path, made: made}, nil
}

// place puts a socket at a path, by a link and a rename in one directory. A rename from one directory to another
// would wait for all others in the file system, among them one that waits for this daemon: overlayfs asks the base for
// attributes while it holds that lock of the file system that changes are on. A Docker engine takes every socket in its
// directory for a plugin, which is called as what stands before the last dot: with another name for a moment, the plugin of
// this path has the same.
func place(made, path string) error {
	fresh := strings.TrimSuffix(path, filepath.Ext(path)) + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(made, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// checkDead makes sure that there is nothing at path that must not be replaced.
func checkDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("there is something else than a socket: %w", fs.ErrExist)
	}
	c, err := net.DialTimeout("unix", path, liveTimeout)
	if err == nil {
		defer c.Close()
		if listenerKilled(c) {
			return nil
		}
		return ErrLive
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%w, or so it seems: %w", ErrLive, err)
}

// socket is a listener at a path of its own.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close removes the socket, unless another daemon's has taken its place.
func (s *socket) Close() error {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.made) {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
