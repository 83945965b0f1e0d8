// Package holder lets mounts of snapshots outlive the process that serves them.
//
// Start with [Lower], which mounts snapshots as the lower layers of overlays and, after the process that did so
// was killed, goes on with them. Between two such processes the mounts are kept by a third, which runs [Hold]:
// it has the descriptors under names, and does nothing else. It is started by a [Client] when there is none, and
// answers only its own user and root.
//
// It guarantees: what was put stays until it is dropped or its mount is gone, and the process lives as long as
// it holds something.
package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning says that there is a holder already.
var ErrRunning = errors.New("a holder is running")

// DefaultIdle is how long a holder of nothing waits for work.
const DefaultIdle = 5 * time.Second

// HoldOptions say how a holder runs.
type HoldOptions struct {
	Idle   time.Duration // 0 is DefaultIdle
	Stay   bool          // until the context is done, even if nothing is held
	Ready  func()        // if set, called once clients can connect
	Logger *slog.Logger  // nil discards
}

// Keys of the log.
const (
	logError = "error"
	logName  = "name"
	logUser  = "uid"
)

// Hold keeps what clients put, at a socket, until it holds nothing and nobody asks any more. The context does
// not stop it while it holds something. The error wraps ErrRunning if another process does this already.
func Hold(ctx context.Context, socket string, o HoldOptions) error {
	if o.Idle <= 0 {
		o.Idle = DefaultIdle
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := lockFor(socket)
	if err != nil {
		return fmt.Errorf("hold mounts at %s: %w", socket, err)
	}
	defer lock.Close()
	l, err := listen(socket)
	if err != nil {
		return fmt.Errorf("hold mounts at %s: %w", socket, err)
	}
	h := &hold{log: o.Logger, stay: o.Stay, held: map[string]held{}}
	if o.Ready != nil {
		o.Ready()
	}
	return h.run(ctx, l, socket, o.Idle)
}

// lockFor makes sure that there is one holder of a socket.
func lockFor(socket string) (*os.File, error) {
	f, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			err = ErrRunning
		}
		return nil, err
	}
	return f, nil
}

// listen makes the socket. It is named by its directory's descriptor: an address has room for 107 bytes.
func listen(socket string) (*net.UnixListener, error) {
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	at := addressOf(dir, socket)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: at, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(at, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func addressOf(dir *os.File, socket string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket))
}

type held struct {
	data  []byte
	files []int
}

func (h held) close() {
	for _, fd := range h.files {
		unix.Close(fd)
	}
}

// dup returns descriptors of the same files that can be closed by themselves.
func (h held) dup() (lent held, err error) {
	for _, fd := range h.files {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			lent.close()
			return held{}, fmt.Errorf("copy a descriptor: %w", err)
		}
		lent.files = append(lent.files, copied)
	}
	return lent, nil
}

// gone reports whether what a descriptor was for has ended: of /dev/fuse, whether its mount is no more.
func (h held) gone() bool {
	for _, fd := range h.files {
		p := []unix.PollFd{{Fd: int32(fd)}}
		if _, err := unix.Poll(p, 0); err == nil && p[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
			return true
		}
	}
	return false
}

type hold struct {
	log  *slog.Logger
	stay bool

	mu    sync.Mutex
	held  map[string]held
	conns int
}

// run accepts connections until there is nothing to do for a while.
func (h *hold) run(ctx context.Context, l *net.UnixListener, socket string, idle time.Duration) error {
	var work sync.WaitGroup
	defer work.Wait()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.SetDeadline(time.Now()) })()
	for {
		l.SetDeadline(time.Now().Add(idle))
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			h.count(1)
			work.Go(func() {
				defer h.count(-1)
				defer c.Close()
				h.serve(c)
			})
		case errors.Is(err, os.ErrDeadlineExceeded):
			if h.idle() && (!h.stay || ctx.Err() != nil) {
				// With the lock still held: nobody else has made a socket of this name.
				return os.Remove(socket)
			}
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			h.log.Error("accept", logError, err)
			<-time.After(time.Second)
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

func (h *hold) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns += n
}

func (h *hold) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep()
	return len(h.held) == 0 && h.conns == 0
}

// sweep lets go of mounts that are no more. It is called with the lock.
func (h *hold) sweep() {
	for name, x := range h.held {
		if x.gone() {
			x.close()
			delete(h.held, name)
		}
	}
}

// serve answers the requests of one connection.
func (h *hold) serve(c *net.UnixConn) {
	if uid, err := peerOf(c); err != nil || uid != uint32(os.Geteuid()) && uid != 0 {
		h.log.Warn("refused", logUser, uid, logError, err)
		send(c, reply{Error: "permission denied", Errno: int(syscall.EPERM)})
		return
	}
	for {
		// Who does not ask or does not listen shall not keep an idle holder alive.
		c.SetDeadline(time.Now().Add(timeout))
		var q request
		files, err := receive(c, &q)
		if err != nil {
			return
		}
		if err := h.answer(c, q, files); err != nil {
			h.log.Warn("answer", logName, q.Name, logError, err)
			return
		}
	}
}

func peerOf(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return cred.Uid, nil
}

// answer takes the files of the request over. It sends without the lock: who does not listen keeps nobody else
// waiting.
func (h *hold) answer(c *net.UnixConn, q request, files []int) error {
	replies, lent := h.do(q, files)
	defer lent.close()
	for _, r := range replies[:len(replies)-1] {
		if err := send(c, r); err != nil {
			return err
		}
	}
	return send(c, replies[len(replies)-1], lent.files...)
}

// do returns the replies to a request, and files for the last of them, which are copies.
func (h *hold) do(q request, files []int) (replies []reply, lent held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep()
	mine := held{q.Data, files}
	if q.Op != opPut || q.Version != version {
		mine.close()
	}
	if q.Version != version {
		return refusal(syscall.EPROTO, fmt.Sprintf("the holder is of version %d", version)), lent
	}
	x, known := h.held[q.Name]
	switch q.Op {
	case opPut:
		if known {
			x.close()
		}
		h.held[q.Name] = mine
	case opGet:
		if !known {
			return refusal(syscall.ENOENT, "nothing is held under this name"), lent
		}
		lent, err := x.dup()
		if err != nil {
			return refusal(syscall.EMFILE, err.Error()), held{}
		}
		return []reply{{Data: x.data}}, lent
	case opDrop:
		if known {
			x.close()
			delete(h.held, q.Name)
		}
	case opList:
		for name := range h.held {
			replies = append(replies, reply{Name: name, More: true})
		}
	default:
		return refusal(syscall.ENOSYS, "unknown request"), lent
	}
	return append(replies, reply{}), lent
}

func refusal(no syscall.Errno, why string) []reply { return []reply{{Errno: int(no), Error: why}} }
