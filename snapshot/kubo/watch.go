package kubo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// maxAnswer bounds an answer, maxLines one of many lines, such as a list of all pins, and maxLine each of those.
	maxAnswer = 16 << 20
	maxLines  = 256 << 20
	maxLine   = 1 << 20
	// minRate is how many bytes have to come in a second, once an answer has taken as long as it may without progress.
	minRate = 4 << 10
	// hintAfter is after how long without progress it is said what is waited for, and hintAgain after how long again.
	hintAfter = 10 * time.Second
	hintAgain = time.Minute
)

var errTooMuch = errors.New("the answer is longer than it can be")

// bounds are a request's own limits on its answer.
type bounds struct {
	bytes int64         // maxAnswer if zero
	lines bool          // values come one a line: progress is a whole line
	total time.Duration // of all lines; zero: any
}

func withBounds(ctx context.Context, b bounds) context.Context {
	return context.WithValue(ctx, bounds{}, b)
}

// watch ends a request that makes no progress, or so little that it would never end.
type watch struct {
	cancel context.CancelCauseFunc
	hint   func(waited time.Duration) // says what is waited for

	mu    sync.Mutex
	timer *time.Timer
	limit time.Duration // without progress
	last  time.Time     // progress
	until time.Time     // when all has to have come; zero: whenever
	next  time.Time     // when to say what is waited for
	ended bool
}

func newWatch(limit time.Duration, cancel context.CancelCauseFunc, hint func(time.Duration)) *watch {
	now := time.Now()
	w := &watch{cancel: cancel, hint: hint, limit: limit, last: now, next: now.Add(hintAfter)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(min(limit, hintAfter), w.look)
	return w
}

// look ends the request, says what is waited for, or leaves it for later.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, end := time.Now(), w.last.Add(w.limit)
	switch {
	case w.ended:
		return
	case !now.Before(end):
		w.cancel(unavailable{fmt.Errorf("no progress for %s", w.limit)})
		return
	case !w.until.IsZero() && !now.Before(w.until):
		w.cancel(unavailable{errors.New("the answer comes too slowly")})
		return
	}
	if waited := now.Sub(w.last); waited >= hintAfter && !now.Before(w.next) {
		w.next = now.Add(hintAgain)
		w.hint(waited)
	}
	if !w.until.IsZero() && w.until.Before(end) {
		end = w.until
	}
	if w.next.Before(w.last.Add(hintAfter)) {
		w.next = w.last.Add(hintAfter)
	}
	w.timer.Reset(min(end.Sub(now), w.next.Sub(now)))
}

// answered says that the answer has begun, which must be whole within total, and some time for each byte.
func (w *watch) answered(limit, total time.Duration) {
	w.mu.Lock()
	w.limit, w.last = limit, time.Now()
	if total > 0 {
		w.until = w.last.Add(total)
	}
	w.mu.Unlock()
	w.look()
}

// progress says that n bytes were sent or came.
func (w *watch) progress(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	w.earn(n)
}

// came says that n bytes came that are no progress yet.
func (w *watch) came(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.earn(n)
}

func (w *watch) earn(n int) {
	if !w.until.IsZero() {
		w.until = w.until.Add(time.Duration(n) * time.Second / minRate)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}

// upload is a request's body.
type upload struct {
	io.ReadCloser
	w *watch
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.w.progress(n)
	return n, err
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
	p.w.progress(n)
	return n, err
}

// download is an answer's body.
type download struct {
	io.ReadCloser
	w      *watch
	ctx    context.Context // the request's; only for its cause
	cancel context.CancelCauseFunc
	left   int64 // bytes that may still come
	lines  bool
	line   int // bytes of the line so far
}

// bound sets the limits: those of the request, or those of any single answer, which waits for nothing any more once it
// has begun.
func (d *download) bound(req context.Context, timeout time.Duration) {
	b, _ := req.Value(bounds{}).(bounds)
	d.left, d.lines = cmp.Or(b.bytes, maxAnswer), b.lines
	total := timeout
	if b.lines {
		total = b.total
	}
	d.w.answered(timeout, total)
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p[:min(int64(len(p)), d.left+1)])
	if d.left -= int64(n); d.left < 0 {
		d.left = 0
		return 0, errTooMuch
	}
	if end := bytes.LastIndexByte(p[:n], '\n'); d.lines && end < 0 {
		d.w.came(n)
		d.line += n
	} else {
		d.w.progress(n)
		d.line = n - end - 1
	}
	if d.lines && d.line > maxLine {
		return 0, errTooMuch
	}
	if err != nil && err != io.EOF {
		err = stalled(d.ctx, err)
	}
	return n, err
}

func (d *download) Close() error {
	d.w.end()
	d.cancel(nil)
	return d.ReadCloser.Close()
}
