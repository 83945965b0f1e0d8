package kubo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/client/rpc"

	"github.com/volary/volary/snapshot"
)

// maxMessage is how much of an error that is not Kubo's own is repeated.
const maxMessage = 200

// patience is a request's own limit on how long it may make no progress.
type patience struct{}

func withPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patience{}, d)
}

// most is a request's own limit on the size of the answer.
type most struct{}

func withMost(ctx context.Context, bytes int64) context.Context {
	return context.WithValue(ctx, most{}, bytes)
}

// clock is where a request leaves what the daemon's clock said.
type clock struct{}

func withClock(ctx context.Context, t *time.Time) context.Context {
	return context.WithValue(ctx, clock{}, t)
}

var errTooMuch = errors.New("the answer is longer than it can be")

// roundTripper authorises requests, ends those that make no progress, and takes care of answers that do not come
// from Kubo.
type roundTripper struct {
	base          http.RoundTripper
	authorization string
	timeout       time.Duration
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	limit := t.timeout
	if d, ok := req.Context().Value(patience{}).(time.Duration); ok {
		limit = d
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{limit: limit}
	w.timer = time.AfterFunc(limit, func() {
		cancel(unavailable{fmt.Errorf("no progress for %s", limit)})
	})
	req = req.Clone(ctx)
	if t.authorization != "" {
		req.Header.Set("Authorization", t.authorization)
	}
	if body, ok := req.Body.(*form); ok {
		// A connection that the daemon has closed meanwhile is found out by sending.
		req.GetBody = func() (io.ReadCloser, error) { return &upload{body.again(), w}, nil }
		req.Body = &upload{body, w}
	}
	res, err := t.base.RoundTrip(req)
	if err != nil {
		w.timer.Stop()
		err = stalled(ctx, err)
		cancel(nil)
		return nil, err
	}
	w.progress()
	if t, ok := req.Context().Value(clock{}).(*time.Time); ok {
		*t, _ = http.ParseTime(res.Header.Get("Date")) // zero: it did not say
	}
	d := &download{ReadCloser: res.Body, w: w, ctx: ctx, cancel: cancel, left: math.MaxInt64}
	if n, ok := req.Context().Value(most{}).(int64); ok {
		d.left = n
	}
	res.Body = d
	if err := foreign(res); err != nil {
		res.Body.Close()
		return nil, err
	}
	return res, nil
}

// stalled returns why ctx was ended, if it was and not by the caller.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, snapshot.ErrUnavailable) {
		return cause
	}
	return err
}

// foreign returns an error for an answer that Kubo's client would not understand.
func foreign(res *http.Response) error {
	kind := res.Header.Get("Content-Type")
	if kind == "" {
		res.Header.Set("Content-Type", "text/plain")
	}
	if res.StatusCode < http.StatusBadRequest || strings.HasPrefix(kind, "application/json") {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxMessage))
	if err != nil {
		return err
	}
	err = fmt.Errorf("%s: %q", res.Status, strings.TrimSpace(string(text)))
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case http.StatusNotFound, http.StatusBadRequest:
		return err
	}
	return unavailable{err}
}

// watch ends a request that makes no progress.
type watch struct {
	timer *time.Timer
	limit time.Duration
}

func (w *watch) progress() { w.timer.Reset(w.limit) }

// upload is a request's body.
type upload struct {
	io.ReadCloser
	w *watch
}

func (u *upload) Read(p []byte) (int, error) {
	u.w.progress()
	return u.ReadCloser.Read(p)
}

// WriteTo is what the transport calls: large blocks are not copied on their way.
func (u *upload) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(progressing{w, u.w}, u.ReadCloser)
}

type progressing struct {
	io.Writer
	w *watch
}

func (p progressing) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	p.w.progress()
	return n, err
}

// download is an answer's body.
type download struct {
	io.ReadCloser
	w      *watch
	ctx    context.Context // the request's; only for its cause
	cancel context.CancelCauseFunc
	left   int64 // bytes that may still come
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	d.w.progress()
	if d.left -= int64(n); d.left < 0 {
		return 0, errTooMuch
	}
	if err != nil && err != io.EOF {
		err = stalled(d.ctx, err)
	}
	return n, err
}

func (d *download) Close() error {
	d.w.timer.Stop()
	d.cancel(nil)
	return d.ReadCloser.Close()
}

// translate puts an error of the client into the contract's terms.
func translate(err error) error {
	if err == nil {
		return nil
	}
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err // without the URL, which has everything that was asked in it
	}
	var said *rpc.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, snapshot.ErrUnavailable), errors.Is(err, snapshot.ErrNotFound),
		errors.Is(err, snapshot.ErrDamaged), errors.Is(err, snapshot.ErrFormat), errors.Is(err, ErrDenied):
		return err
	case ipld.IsNotFound(err):
		return fmt.Errorf("%w: %w", snapshot.ErrNotFound, err)
	case errors.As(err, &said):
		return err
	}
	return unavailable{err}
}

// unavailable is an error for which a daemon cannot be used now. It is a [snapshot.ErrUnavailable] that does not say
// of a block what holds of all of them.
type unavailable struct{ error }

func (u unavailable) Is(target error) bool { return target == snapshot.ErrUnavailable }

func (u unavailable) Unwrap() error { return u.error }
