package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/ipfs/go-cid"
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeRaw    = "application/vnd.ipld.raw"
	typeBytes  = "application/octet-stream"

	// writePiece is how much a caller must take within the stall timeout.
	writePiece = 512 << 10
	// maxJSON bounds a JSON body.
	maxJSON = 1 << 20
)

// responder writes an answer with a deadline that moves on with every write, so that a caller who does not
// read holds nothing for long and one who reads slowly gets everything.
type responder struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	status  int // 0: nothing was answered yet
}

// code is the status of the answer.
func (w *responder) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

func (w *responder) extend() { w.control.SetWriteDeadline(time.Now().Add(w.stall)) }

func (w *responder) WriteHeader(status int) {
	w.extend()
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *responder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	written := 0
	for {
		piece := p[written:min(written+writePiece, len(p))]
		w.extend()
		n, err := w.ResponseWriter.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

func (w *responder) flush() error {
	w.status = w.code() // which is sent
	w.extend()
	return w.control.Flush()
}

// Unwrap is for http.ResponseController.
func (w *responder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// stallReader reads a request's body with a deadline that moves on with every read. It is set from the
// beginning: what a handler leaves of a body net/http reads before it answers.
type stallReader struct {
	body    io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
	err     error
}

// newStallReader takes a request's body in hand, if it has one.
func newStallReader(body io.ReadCloser, control *http.ResponseController, stall time.Duration) io.ReadCloser {
	if body == http.NoBody {
		return body
	}
	s := &stallReader{body: body, control: control, stall: stall}
	s.extend()
	return s
}

func (s *stallReader) extend() { s.control.SetReadDeadline(time.Now().Add(s.stall)) }

func (s *stallReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.extend()
	n, err := s.body.Read(p)
	switch {
	case err == io.EOF:
		// From here on net/http reads ahead to see the caller go, for which there is no deadline.
		s.control.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the body stopped coming for %v: %w", s.stall, ErrRequest)
	case err != nil:
		err = fmt.Errorf("read body: %w: %w", ErrRequest, err)
	}
	s.err = err
	return n, err
}

func (s *stallReader) Close() error { return s.body.Close() }

// json answers with one JSON value.
func (c *call) json(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", typeJSON)
	c.w.WriteHeader(status)
	_, err = c.w.Write(append(b, '\n'))
	return err
}

func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// bytes answers with bytes.
func (c *call) bytes(contentType string, b []byte) error {
	c.w.Header().Set("Content-Type", contentType)
	c.w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	_, err := c.w.Write(b)
	return err
}

// body is the request's body, of at most limit bytes.
func (c *call) body(limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(c.r.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("body above %d bytes: %w", limit, ErrTooLarge)
	}
	return b, err
}

// decode reads a JSON body; what it does not know it refuses.
func (c *call) decode(v any) error {
	b, err := c.body(maxJSON)
	if err != nil {
		return err
	}
	if err := unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return nil
}

// pathCID is the CID that the path names.
func (c *call) pathCID() (cid.Cid, error) {
	return parseCID(c.r.PathValue("cid"))
}

func parseCID(s string) (cid.Cid, error) {
	if len(s) > 2*maxCIDSize {
		return cid.Undef, fmt.Errorf("CID of %d characters: %w", len(s), ErrTooLarge)
	}
	id, err := cid.Decode(s)
	if err != nil {
		return cid.Undef, fmt.Errorf("CID %q: %w: %w", s, ErrRequest, err)
	}
	return id, nil
}

// errorLine is the last line of a stream that could not be finished.
type errorLine struct {
	Error *errorJSON `json:"error"`
}

// lineWriter writes JSON values, one a line.
type lineWriter struct {
	w   *responder
	buf *bufio.Writer
	out *json.Encoder
}

func (l *lineWriter) line(v any) error { return l.out.Encode(v) }

// flush sends what was written so far.
func (l *lineWriter) flush() error {
	if err := l.buf.Flush(); err != nil {
		return err
	}
	return l.w.flush()
}

// lines answers with a stream of JSON values, one a line. An error that produce returns is its last line; as
// long as nothing was sent it is the whole answer.
func (c *call) lines(produce func(*lineWriter) error) error {
	c.w.Header().Set("Content-Type", typeNDJSON)
	l := &lineWriter{w: c.w, buf: bufio.NewWriterSize(c.w, 32<<10)}
	l.out = json.NewEncoder(l.buf)
	err := produce(l)
	if err != nil {
		if c.w.status == 0 {
			return err
		}
		_, j := c.server.errors.encode(c.explain(err))
		l.line(errorLine{&j})
	}
	return errors.Join(err, l.buf.Flush())
}

// unmarshal decodes one JSON value and refuses what is not known.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}
