package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/volary/volary/snapshot"
)

const (
	// clientConns is how many requests of one client are under way at a time, sessions aside.
	clientConns = 24
	// dialTimeout bounds the wait for a daemon that does not accept.
	dialTimeout = 10 * time.Second
	// endTimeout bounds the wait for a session's end.
	endTimeout = 5 * time.Second
)

// DialOptions say how a daemon is spoken to. The zero value is useful.
type DialOptions struct {
	Kinds []ErrorKind // errors of the host's parts that keep their identity; the same as in ServerOptions
}

// Dial returns the host that the daemon listening at path holds. Without a daemon the error wraps
// [ErrNoDaemon], with one of another major version [ErrVersion], and fs.ErrPermission for a caller who is not
// in the socket's group. A daemon that goes away later is [snapshot.ErrUnavailable].
//
// Closing the host ends its connections, not the daemon; sessions are to be closed before.
func Dial(ctx context.Context, path string, o DialOptions) (*Host, error) {
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	c := newClient(path, o)
	if err := c.greet(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return &Host{
		Blocks: remoteBlocks{client: c}, Sessions: remoteSessions{c}, Pins: remotePins{c}, Tags: remoteTags{c},
		Origins: remoteOrigins{c}, Upkeep: remoteUpkeep{c}, Volumes: remoteVolumes{c}, Heads: remoteHeads{c}, Replicas: remoteReplicas{c}, Network: remoteNetwork{c}, Closer: c,
	}, nil
}

// In returns the host for what relies on a session of it: pins, tags and marks made through it are refused
// with [ErrSession] if the session has ended, and with it the protection of what they are about. A host that
// was opened directly is in this process, as its sessions are, and is returned as it is.
func (h *Host) In(s Session) *Host {
	remote, ok := s.(*remoteSession)
	if !ok {
		return h
	}
	c := *remote.client
	c.session = remote
	in := *h
	in.Pins, in.Tags, in.Origins = remotePins{&c}, remoteTags{&c}, remoteOrigins{&c}
	return &in
}

type client struct {
	path    string
	session *remoteSession // within which requests are made; nil: none
	errors  errorTable
	http    *http.Transport
	// streams is for requests that last: they must not keep others from having a connection.
	streams *http.Transport
}

func newClient(path string, o DialOptions) *client {
	dialer := net.Dialer{Timeout: dialTimeout}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil && listenerKilled(conn) {
			conn.Close()
			return nil, fmt.Errorf("connect to %s: %w", path, syscall.ECONNREFUSED)
		}
		return conn, err
	}
	return &client{
		path: path, errors: newErrorTable(o.Kinds),
		http: &http.Transport{
			DialContext: dial, DisableCompression: true,
			MaxConnsPerHost: clientConns, MaxIdleConns: clientConns, MaxIdleConnsPerHost: clientConns,
			IdleConnTimeout: idleTimeout / 2,
			WriteBufferSize: bodyPiece + 4<<10, ReadBufferSize: 64 << 10,
		},
		streams: &http.Transport{DialContext: dial, DisableCompression: true, DisableKeepAlives: true},
	}
}

// Close gives the connections up.
func (c *client) Close() error {
	c.http.CloseIdleConnections()
	c.streams.CloseIdleConnections()
	return nil
}

// greet finds out whether client and server understand each other.
func (c *client) greet(ctx context.Context) error {
	res, err := c.do(ctx, request{method: http.MethodGet, path: "/version"})
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s", ErrNoDaemon, c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the daemon's socket %s: %w\nonly members of its group can use it", c.path, fs.ErrPermission)
	default:
		return err
	}
	defer res.Body.Close()
	var v versionJSON
	if err := json.NewDecoder(io.LimitReader(res.Body, maxJSON)).Decode(&v); err != nil || v.API == 0 {
		return fmt.Errorf("what listens on %s is no volary daemon: %w", c.path, ErrVersion)
	}
	return checkServer(v.API)
}

// request is a request to be made. All but once ones may be made again if the connection turns out to have
// been closed before they arrived.
type request struct {
	method, path string
	session      string
	local        bool
	body         func() io.ReadCloser // nil: none
	size         int64                // of the body; -1 if unknown
	stream       bool
	once         bool
}

// with gives a request a body in memory.
func (q request) with(body []byte) request {
	q.body = func() io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }
	q.size = int64(len(body))
	return q
}

// do makes a request. The response's status is below 400, its body the caller's to read to the end and close.
func (c *client) do(ctx context.Context, q request) (*http.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, q.method, "http://volary"+q.path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(versionHeader, strconv.Itoa(Version))
	if q.session == "" && c.session != nil {
		if err := c.session.state(); err != nil {
			return nil, err
		}
		q.session = c.session.session
	}
	if q.session != "" {
		r.Header.Set(sessionHeader, q.session)
	}
	if q.local {
		r.Header.Set(localHeader, "1")
	}
	if !q.once {
		// A nil value is not sent, but lets the transport try again.
		r.Header["Idempotency-Key"] = nil
	}
	if q.body != nil && q.size != 0 {
		r.GetBody = func() (io.ReadCloser, error) { return q.body(), nil }
		r.Body, r.ContentLength = q.body(), q.size
	}
	transport := c.http
	if q.stream {
		transport = c.streams
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		defer res.Body.Close()
		return nil, c.errors.decodeResponse(res)
	}
	return res, nil
}

// lost explains a request that got no answer, or only part of one.
func (c *client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("daemon on %s: %w: %w", c.path, snapshot.ErrUnavailable, err)
}

// run makes a request whose answer is nothing.
func (c *client) run(ctx context.Context, q request) error {
	res, err := c.do(ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return c.lost(ctx, err)
	}
	return nil
}

// read makes a request whose answer is at most limit bytes. Without content it is nil.
func (c *client) read(ctx context.Context, q request, limit int) ([]byte, error) {
	res, err := c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	return c.readBody(ctx, res, nil, limit)
}

// readBody reads a response of known length, into buf if it has room.
func (c *client) readBody(ctx context.Context, res *http.Response, buf []byte, limit int) ([]byte, error) {
	size := res.ContentLength
	if size < 0 || size > int64(limit) {
		return nil, fmt.Errorf("daemon on %s: an answer of %d bytes, at most %d are expected", c.path, size, limit)
	}
	if buf == nil || int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(res.Body, buf); err != nil {
		return nil, c.lost(ctx, err)
	}
	// The end must have been seen for the connection to serve again.
	if _, err := res.Body.Read(make([]byte, 1)); err != io.EOF {
		return nil, c.lost(ctx, fmt.Errorf("the answer does not end: %w", io.ErrUnexpectedEOF))
	}
	return buf, nil
}

// get makes a request whose answer is one JSON value.
func (c *client) get(ctx context.Context, q request, v any) error {
	res, err := c.do(ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return c.lost(ctx, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("daemon on %s: decode its answer: %w", c.path, err)
	}
	return nil
}
