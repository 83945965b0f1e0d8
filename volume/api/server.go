package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/volary/volary/snapshot"
)

const (
	// DefaultStallTimeout is how long a caller may let its side of a transfer rest.
	DefaultStallTimeout = time.Minute
	// DefaultGrace is how long requests may take to end once the server was told to stop.
	DefaultGrace = 10 * time.Second

	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 5 * time.Minute
	maxHeader         = 32 << 10
	cutTimeout        = 2 * time.Second // from cancelling requests to closing their connections
)

// Keys of log records.
const (
	logError         = "error"
	logUID           = "uid"
	logPID           = "pid"
	logRoute         = "route"
	logRoot          = "root"
	logOwner         = "owner"
	logName          = "name"
	logRemovedBlocks = "removed_blocks"
	logRemovedBytes  = "removed_bytes"
)

// ServerOptions say how a host is served. The zero value is useful.
type ServerOptions struct {
	Logger       *slog.Logger         // nil discards
	Version      string               // of the program
	Registry     *prometheus.Registry // where the metrics are registered; nil: one of the server's own
	Kinds        []ErrorKind          // errors of the host's parts that keep their identity, beside the contracts'
	StallTimeout time.Duration        // DefaultStallTimeout if zero
	Grace        time.Duration        // DefaultGrace if zero
}

// Server offers a host on a unix socket. It must be made by NewServer.
type Server struct {
	farSize atomic.Int64 // of usual blocks that came from elsewhere

	host     *Host
	o        ServerOptions
	log      *slog.Logger
	errors   errorTable
	mux      *http.ServeMux
	metrics  *metrics
	callers  callers
	sessions sessionTable
	readers  sync.Pool // of *blockReader
	buffers  sync.Pool // of *[]byte, of the largest block's size
	writers  sync.Pool // of *bufio.Writer
	stopping chan struct{}

	gate   sync.RWMutex // held shared by every request
	closed bool
}

// NewServer makes a server of host, which stays the caller's to close. All of its parts but Origins must be
// there. Metrics that are in the registry already are an error.
func NewServer(host *Host, o ServerOptions) (*Server, error) {
	if host.Owners == nil {
		return nil, errors.New("serve a host: it does not tell its users' marks apart")
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = DefaultStallTimeout
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	s := &Server{host: host, o: o, log: o.Logger, errors: newErrorTable(o.Kinds), mux: http.NewServeMux(), stopping: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.callers.all = make(map[uint32]*caller)
	s.sessions.all = make(map[string]*openSession)
	s.readers.New = func() any { return newBlockReader(nil) }
	s.writers.New = func() any { return bufio.NewWriterSize(nil, bodyPiece) }
	s.buffers.New = func() any { b := make([]byte, 0, snapshot.MaxBlockSize); return &b }
	var err error
	if s.metrics, err = newMetrics(s, o); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

// errStopping is why requests end when the server stops.
var errStopping = fmt.Errorf("the daemon is stopping: %w", snapshot.ErrUnavailable)

// Serve answers on l, which must be of unix sockets, until ctx is done or l fails, and closes l. Sessions end at
// once then, other requests may finish within the grace period. When Serve returns no request is being worked
// on, and the host can be closed. It can be called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(&peerListener{Listener: l, callers: &s.callers, log: s.log}) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	close(s.stopping)
	s.shutdown(srv, cancel)
	if err == nil {
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", l.Addr(), err)
}

// shutdown lets requests finish, then cancels them, then takes their connections away, and waits for them.
func (s *Server) shutdown(srv *http.Server, cancel context.CancelCauseFunc) {
	for _, patience := range []time.Duration{s.o.Grace, cutTimeout} {
		ctx, done := context.WithTimeout(context.Background(), patience)
		err := srv.Shutdown(ctx)
		done()
		if err == nil {
			break
		}
		cancel(errStopping)
	}
	srv.Close()
	s.gate.Lock()
	s.closed = true
	s.gate.Unlock()
}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	if p, ok := c.(*peerConn); ok {
		return context.WithValue(ctx, peerKey{}, p.peer)
	}
	return ctx
}

// ServeHTTP answers one request, of a connection that Serve has accepted.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	answer := &responder{ResponseWriter: w, control: http.NewResponseController(w), stall: s.o.StallTimeout}
	answer.Header().Set("X-Content-Type-Options", "nosniff")
	answer.Header().Set(versionHeader, strconv.Itoa(Version))
	r.Body = newStallReader(r.Body, answer.control, s.o.StallTimeout)
	if err := s.admit(r); err != nil {
		s.newCall(answer, r).fail(err)
		return
	}
	s.mux.ServeHTTP(answer, r)
}

// admit refuses who cannot be served at all.
func (s *Server) admit(r *http.Request) error {
	if _, known := PeerFrom(r.Context()); !known {
		return fmt.Errorf("the caller is not known: %w", fs.ErrPermission)
	}
	if s.closed {
		return errStopping
	}
	if r.URL.Path == "/version" {
		return nil
	}
	return checkClient(r)
}

// A call is one request being answered.
type call struct {
	server *Server
	w      *responder
	r      *http.Request
	peer   Peer

	release func() // of the session that the request holds, if any
}

func (s *Server) newCall(w *responder, r *http.Request) *call {
	peer, _ := PeerFrom(r.Context())
	return &call{server: s, w: w, r: r, peer: peer}
}

// handle adds a route. The error a handler returns before it has answered becomes the answer.
func (s *Server) handle(pattern string, h func(*call) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c := s.newCall(w.(*responder), r)
		began := time.Now()
		err := h(c)
		if c.release != nil {
			c.release()
		}
		if err != nil && c.w.status == 0 {
			c.fail(err)
		}
		s.metrics.request(pattern, c.w.code(), time.Since(began))
	})
}

// fail answers with an error.
func (c *call) fail(err error) {
	status, j := c.server.errors.encode(c.explain(err))
	if status == http.StatusInternalServerError {
		c.logFailure(err)
	}
	c.drain()
	c.json(status, j)
}

// logFailure records what is no mistake of the caller.
func (c *call) logFailure(err error) {
	c.server.log.Error("request failed", logRoute, c.r.Method+" "+c.r.URL.Path, logError, err, logUID, c.peer.UID, logPID, c.peer.PID)
}

// explain tells a request that ends with the server from one whose caller gave up.
func (c *call) explain(err error) error {
	if errors.Is(err, context.Canceled) && errors.Is(context.Cause(c.r.Context()), errStopping) {
		return errStopping
	}
	return err
}

// maxDrain is how much of a body is read to its end after an error: a client that is still writing would
// otherwise see its connection break before it sees the answer.
const maxDrain = 64 << 20

func (c *call) drain() {
	if _, err := io.CopyN(io.Discard, c.r.Body, maxDrain); err == nil {
		c.w.Header().Set("Connection", "close")
	}
}

// log records who changed something.
func (c *call) log(what string, args ...any) {
	c.server.log.Info(what, append(args, logUID, c.peer.UID, logPID, c.peer.PID)...)
}
