package view

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// maxRead is the largest read the kernel asks for, in bytes.
const maxRead = 1 << 20

const (
	fewIdle    = 4   // workers that wait for requests at a time, at most
	maxWorkers = 128 // of one mount: more requests wait
)

// What go-fuse does not export of the protocol (include/uapi/linux/fuse.h).
const (
	opLookup      = 1
	opForget      = 2
	opRead        = 15
	opOpenDir     = 27
	opReleaseDir  = 29
	opInterrupt   = 36
	opBatchForget = 42
	opReadDirPlus = 44
	notifyResend  = 7
	inHeader      = 40 // bytes
	outHeader     = 16
	readIn        = 40
)

// Connection is what it takes to go on with a mount whose server is gone.
type Connection struct {
	Device *os.File // /dev/fuse
	Table  *os.File // what the server told the kernel, as far as the snapshot does not say it
	Init   []byte   // the kernel's first request
	// Generations are the snapshots that the kernel may know entries of, the one that is shown first; of a mount made
	// with Options.Follow.
	Generations []Generation
}

// Close closes the files. The mount is of no use once all copies of the device are closed.
func (c Connection) Close() error { return errors.Join(c.Device.Close(), c.Table.Close()) }

// Server answers the requests of one mount, until it is unmounted.
type Server struct {
	conn  Connection
	fd    int                  // of conn.Device
	shown source               // nil if all is refused
	proto *fuse.ProtocolServer // of shown
	log   *slog.Logger
	room  func() ([]byte, error) // makes a worker's memory
	again func() error           // asks the kernel for the requests that were not answered
	work  sync.WaitGroup         // workers
	busy  sync.WaitGroup         // requests that are being answered

	mu            sync.Mutex
	workers, idle int
	stopped       bool
}

// Resume goes on with a mount of s, made with the same options. Requests that an earlier server took and did not
// answer are sent again by Linux 6.9 and later. It takes the connection over: the files are closed when the
// mount ends, or if there is an error.
func Resume(ctx context.Context, s *tree.Snapshot, c Connection, o Options) (*Server, error) {
	srv, err := newServer(ctx, s, c, o)
	if err == nil {
		_, err = srv.greet(c.Init)
	}
	if err == nil {
		if f, ok := srv.shown.(*follower); ok {
			srv.renewed(f) // the earlier server may not have come so far
		}
		err = srv.again()
	}
	if errors.Is(err, errNoResend) {
		srv.log.Warn("who waits for an answer of the earlier server waits on", logError, err)
		err = nil
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("go on with a mount of %s: %w", s.CID, err)
	}
	srv.serve()
	return srv, nil
}

// Refuse answers what is asked of a mount with an I/O error, for a snapshot that cannot be had: without an answer, who
// asks could not even be killed. It takes the connection over as Resume does, for which it can be stopped.
func Refuse(c Connection, l *slog.Logger) (*Server, error) {
	srv := &Server{conn: c, fd: int(c.Device.Fd()), log: l, room: buffer}
	srv.again = srv.resend
	if err := srv.again(); err != nil && !errors.Is(err, errNoResend) {
		c.Close()
		return nil, fmt.Errorf("refuse what a mount is asked: %w", err)
	}
	srv.serve()
	return srv, nil
}

func newServer(ctx context.Context, s *tree.Snapshot, c Connection, o Options) (*Server, error) {
	shown, log, attrs, err := newSource(ctx, s, &c, o)
	if err != nil {
		return nil, err
	}
	opts := &fuse.MountOptions{
		Name: fsName, FsName: fsName, MaxWrite: maxRead, MaxReadAhead: maxRead, MaxBackground: maxWorkers / 2,
		DisableXAttrs: !attrs, EnableAcl: attrs && o.AllowOther, EnableSymlinkCaching: true,
		ExplicitDataCacheControl: true,
		// What the kernel makes of a handle of a FUSE file does not last, and overlayfs would use it.
		ExtraCapabilities:    fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_NO_EXPORT_SUPPORT,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		Logger:               stdlog.New(logWriter{log}, "", 0),
	}
	srv := &Server{conn: c, fd: int(c.Device.Fd()), shown: shown, proto: fuse.NewProtocolServer(shown, opts), log: log, room: buffer}
	srv.again = srv.resend
	return srv, nil
}

// logWriter turns go-fuse's lines into ours.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Warn("fuse", logError, string(line))
	return len(line), nil
}

// Connection returns what it takes to go on with the mount. The files are the server's.
func (s *Server) Connection() Connection {
	c := s.conn
	c.Generations = s.Generations()
	return c
}

// Wait returns when the mount has ended.
func (s *Server) Wait() {
	s.work.Wait()
	if s.shown != nil {
		s.shown.finish()
	}
}

// greet answers the kernel's first request, and returns the answer.
func (s *Server) greet(request []byte) ([]byte, error) {
	out := make([]byte, 4096)
	n, status := s.proto.HandleRequest([][]byte{request}, [][]byte{out})
	if !status.Ok() || n < outHeader || binary.LittleEndian.Uint32(out[4:]) != 0 {
		return nil, fmt.Errorf("the kernel's FUSE is not known: %w", syscall.EPROTO)
	}
	return out[:n], nil
}

var errNoResend = errors.New("this kernel does not repeat requests")

// resend asks the kernel for the requests that were not answered.
func (s *Server) resend() error {
	err := notify(s.conn.Device, notifyResend, nil)
	if errors.Is(err, syscall.EINVAL) {
		return errNoResend
	}
	return err
}

func (s *Server) serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
}

// start is called with the lock.
func (s *Server) start() {
	s.workers++
	s.idle++
	s.work.Go(s.worker)
}

// taken and free keep a few workers waiting for requests while others wait for blocks. A request that a worker
// took after Stop is for the next server: it is to be sent again.
func (s *Server) taken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	if s.idle--; s.idle == 0 && s.workers < maxWorkers {
		s.start()
	}
	s.busy.Add(1)
	return true
}

func (s *Server) free() bool {
	s.busy.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle >= fewIdle {
		return false
	}
	s.idle++
	return true
}

func (s *Server) worker() {
	w, err := newWorker(s)
	if err != nil {
		s.log.Error("cannot serve with another worker", logError, err)
		s.leave(1)
		return
	}
	defer w.release()
	for {
		n, err := syscall.Read(s.fd, w.in)
		switch err {
		case nil:
			if !s.taken() {
				w.handBack(w.in[:n])
				return
			}
			w.handle(w.in[:n])
			if !s.free() {
				return
			}
		case syscall.EINTR, syscall.EAGAIN, syscall.ENOENT: // ENOENT: the request was withdrawn
		default:
			if err != syscall.ENODEV {
				s.log.Error("read from the kernel", logError, err)
			} else if s.shown != nil {
				s.shown.stop() // unmounted: nobody waits for what is being read
			}
			return
		}
	}
}

// worker handles one request at a time. Its memory is in place before the kernel copies to or from it: a page
// fault in a process that is being killed would fail the request.
type worker struct {
	*Server
	in, out []byte
}

func newWorker(s *Server) (*worker, error) {
	in, err := s.room()
	if err != nil {
		return nil, err
	}
	out, err := s.room()
	if err != nil {
		unix.Munmap(in)
		return nil, err
	}
	return &worker{s, in, out}, nil
}

func buffer() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, maxRead+64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("make room for requests: %w", err)
	}
	for i := 0; i < 64<<10; i += 4096 {
		b[i] = 1
	}
	return b, nil
}

func (w *worker) release() {
	unix.Munmap(w.in)
	unix.Munmap(w.out)
	w.leave(0)
}

// leave is called once by each worker. Without the last one nobody would ever answer: the mount is given up, or is
// for who else has the connection.
func (s *Server) leave(idle int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle -= idle
	if s.workers--; s.workers == 0 {
		s.conn.Close()
	}
}

// handBack leaves a request to the next server. If that will not get it, its sender is told instead of waiting for
// ever. What the kernel forgets it says once.
func (w *worker) handBack(request []byte) {
	if op := binary.LittleEndian.Uint32(request[4:]); op == opForget || op == opBatchForget {
		w.handle(request)
		return
	}
	if err := w.again(); err != nil {
		w.log.Error("leave a request to the next server", logError, err)
		w.reply([][]byte{w.header(request, 0, fuse.EIO)})
	}
}

func (w *worker) handle(request []byte) {
	var answer [][]byte
	op := binary.LittleEndian.Uint32(request[4:])
	switch {
	case op == opInterrupt:
		// Nobody expects a read of a file to be interrupted, and each is bounded in time: the kernel is to stop asking.
		answer = [][]byte{w.header(request, 0, fuse.ENOSYS)}
	case w.shown == nil && (op == opForget || op == opBatchForget):
		return
	case w.shown == nil:
		answer = [][]byte{w.header(request, 0, fuse.EIO)}
	case op == opRead:
		answer = w.read(request)
	default:
		n, _ := w.proto.HandleRequest([][]byte{request}, [][]byte{w.out})
		if n == 0 {
			return
		}
		answer = [][]byte{w.out[:n]}
	}
	taken := w.reply(answer)
	if f, ok := w.shown.(*follower); ok {
		f.answered(op, request, answer[0], taken)
	}
}

// reply reports whether the kernel took an answer. It takes none to what it asked again meanwhile.
func (w *worker) reply(answer [][]byte) bool {
	for {
		_, err := unix.Writev(w.fd, answer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil && err != syscall.ENOENT && err != syscall.ENODEV {
			w.log.Error("answer the kernel", logError, err)
		}
		return err != syscall.ENOENT
	}
}

func (w *worker) header(request []byte, size int, status fuse.Status) []byte {
	h := w.out[:outHeader]
	binary.LittleEndian.PutUint32(h, uint32(outHeader+size))
	binary.LittleEndian.PutUint32(h[4:], uint32(-int32(status)))
	copy(h[8:], request[8:16])
	return h
}

// maxParts is how many pieces one answer has.
const maxParts = 1000 // below IOV_MAX

// read answers from the memory the content is in.
func (w *worker) read(request []byte) [][]byte {
	if len(request) < inHeader+readIn {
		return [][]byte{w.header(request, 0, fuse.EIO)}
	}
	id := binary.LittleEndian.Uint64(request[16:])
	offset := binary.LittleEndian.Uint64(request[inHeader+8:])
	size := binary.LittleEndian.Uint32(request[inHeader+16:])
	v, id, found, err := w.shown.find(id)
	if err != nil {
		return [][]byte{w.header(request, 0, w.shown.failed(err))}
	}
	defer found()
	ctx, done := v.within()
	defer done()
	n, _, p, err := v.of(ctx, id)
	var parts [][]byte
	if err == nil && n.kind != meta.File {
		return [][]byte{w.header(request, 0, fuse.EINVAL)}
	}
	if err == nil {
		parts, err = v.read(ctx, n, offset, int(min(size, maxRead)))
	}
	if err != nil {
		return [][]byte{w.header(request, 0, v.status(p, err))}
	}
	if len(parts) > maxParts {
		all := w.out[outHeader:outHeader]
		for _, part := range parts {
			all = append(all, part...)
		}
		parts = [][]byte{all}
	}
	total := 0
	for _, part := range parts {
		total += len(part)
	}
	return append([][]byte{w.header(request, total, fuse.OK)}, parts...)
}
