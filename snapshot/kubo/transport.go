package kubo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/client/rpc"

	"github.com/volary/volary/snapshot"
)

const (
	// maxMessage is how much of an error that is not Kubo's own is repeated.
	maxMessage = 200
	// maxError bounds what Kubo says of an error of its own.
	maxError = 8 << 10
)

// patience is a request's own limit on how long it may make no progress.
type patience struct{}

func withPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patience{}, d)
}

// inLines is for a list, however slowly a daemon reads it from its disk.
func (b *Blocks) inLines(ctx context.Context) context.Context {
	return withBounds(ctx, bounds{bytes: maxLines, lines: true, total: b.o.LockTimeout})
}

// clock is where a request leaves what the daemon's clock said.
type clock struct{}

func withClock(ctx context.Context, t *time.Time) context.Context {
	return context.WithValue(ctx, clock{}, t)
}

// roundTripper authorises requests, ends those that make no progress, and takes care of answers that do not come
// from Kubo.
type roundTripper struct {
	base          http.RoundTripper
	authorization string
	timeout       time.Duration
	hint          func(request string, waited time.Duration)
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	limit := t.timeout
	if d, ok := req.Context().Value(patience{}).(time.Duration); ok {
		limit = d
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := newWatch(limit, cancel, func(waited time.Duration) {
		t.hint(strings.TrimPrefix(req.URL.Path, "/api/v0/"), waited)
	})
	out := req.Clone(ctx)
	if t.authorization != "" {
		out.Header.Set("Authorization", t.authorization)
	}
	if body, ok := req.Body.(*form); ok {
		// A connection that the daemon has closed meanwhile is found out by sending.
		out.GetBody = func() (io.ReadCloser, error) { return &upload{body.again(), w}, nil }
		out.Body = &upload{body, w}
	}
	res, err := t.base.RoundTrip(out)
	if err != nil {
		w.end()
		err = stalled(ctx, err)
		cancel(nil)
		return nil, err
	}
	if t, ok := req.Context().Value(clock{}).(*time.Time); ok {
		*t, _ = http.ParseTime(res.Header.Get("Date")) // zero: it did not say
	}
	d := &download{ReadCloser: res.Body, w: w, ctx: ctx, cancel: cancel}
	d.bound(req.Context(), t.timeout)
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

// foreign returns an error for an answer that Kubo's client would not understand. Of one that it does, and that says
// what failed, all is read then.
func foreign(res *http.Response) error {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	res.Header.Set("Content-Type", kind)
	if res.StatusCode < http.StatusBadRequest {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	if err != nil {
		return err
	}
	denied := slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired}, res.StatusCode)
	var said rpc.Error
	if kind == "application/json" && !denied && json.Unmarshal(text, &said) == nil && said.Message != "" {
		res.Body = struct {
			io.Reader
			io.Closer
		}{bytes.NewReader(text), res.Body}
		return nil
	}
	err = fmt.Errorf("%s: %q", res.Status, strings.TrimSpace(string(text[:min(len(text), maxMessage)])))
	switch {
	case denied:
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusBadRequest:
		return err
	}
	return unavailable{err}
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
