package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

var (
	// ErrNoDaemon says that nobody listens on the socket.
	ErrNoDaemon = errors.New("no daemon is running")
	// ErrVersion says that server and client speak different major versions of the API.
	ErrVersion = errors.New("API versions differ")
	// ErrSession says that a session is not there any more, and with it the protection it gave.
	ErrSession = errors.New("session has ended")
	// ErrRequest says that a request is not one the API knows.
	ErrRequest = errors.New("malformed request")
	// ErrTooLarge says that a request exceeds a limit in size or number.
	ErrTooLarge = errors.New("request too large")
	// ErrTooMany says that a caller has too much open at a time.
	ErrTooMany = errors.New("too many at a time")
)

// statusClosed is what other servers use, too, for a request whose client has gone.
const statusClosed = 499

// An ErrorKind is an error that keeps its identity across the socket: errors.Is of a client's error and Err
// holds if it held on the server.
type ErrorKind struct {
	Name   string // in the JSON of an error
	Err    error
	Status int // of the HTTP response; 500 if zero
}

// kinds is the one table of what errors are called on the wire. The first that matches gives the status.
func kinds() []ErrorKind {
	return []ErrorKind{
		{"version", ErrVersion, http.StatusBadRequest},
		{"session", ErrSession, http.StatusGone},
		{"too_large", ErrTooLarge, http.StatusRequestEntityTooLarge},
		{"too_many", ErrTooMany, http.StatusTooManyRequests},
		{"request", ErrRequest, http.StatusBadRequest},
		{"no_space", syscall.ENOSPC, http.StatusInsufficientStorage},
		{"quota", syscall.EDQUOT, http.StatusInsufficientStorage},
		{"damaged", snapshot.ErrDamaged, http.StatusInternalServerError},
		{"format", snapshot.ErrFormat, http.StatusBadRequest},
		{"volume_not_found", volume.ErrNotFound, http.StatusNotFound},
		{"volume_exist", volume.ErrExist, http.StatusConflict},
		{"volume_mounted", volume.ErrMounted, http.StatusConflict},
		{"volume_leased", volume.ErrLeased, http.StatusConflict},
		{"mount_in_use", volume.ErrInUse, http.StatusConflict},
		{"volume_invalid", volume.ErrInvalid, http.StatusBadRequest},
		{"cannot_mount", volume.ErrCannotMount, http.StatusConflict},
		{"cannot_pause", volume.ErrCannotPause, http.StatusConflict},
		{"volumes_newer", volume.ErrNewer, http.StatusConflict},
		{"not_found", snapshot.ErrNotFound, http.StatusNotFound},
		{"pin_owner", pinset.ErrOwner, http.StatusBadRequest},
		{"not_pinned", pinset.ErrNotPinned, http.StatusNotFound},
		{"no_cluster", ErrNoCluster, http.StatusConflict},
		{"no_network", ErrNoNetwork, http.StatusConflict},
		{"not_exist", fs.ErrNotExist, http.StatusNotFound},
		{"exist", fs.ErrExist, http.StatusConflict},
		{"permission", fs.ErrPermission, http.StatusForbidden},
		{"read_only", syscall.EROFS, http.StatusForbidden},
		{"io", syscall.EIO, http.StatusInternalServerError},
		{"unexpected_eof", io.ErrUnexpectedEOF, http.StatusInternalServerError},
		{"not_fetched", snapshot.ErrNotFetched, http.StatusGatewayTimeout},
		{"unavailable", snapshot.ErrUnavailable, http.StatusServiceUnavailable},
		{"pins_unavailable", pinset.ErrUnavailable, http.StatusServiceUnavailable},
		{"deadline", context.DeadlineExceeded, http.StatusGatewayTimeout},
		{"canceled", context.Canceled, statusClosed},
	}
}

// errorTable is kinds and what the wiring adds to them, which comes first.
type errorTable []ErrorKind

func newErrorTable(more []ErrorKind) errorTable {
	return append(more[:len(more):len(more)], kinds()...)
}

// errorJSON is an error on the wire.
type errorJSON struct {
	Kind    string   `json:"kind"`
	Also    []string `json:"also,omitempty"` // further kinds the same error is of
	Message string   `json:"message"`
}

// encode says what an error is called, and with which status it is answered.
func (t errorTable) encode(err error) (int, errorJSON) {
	status, j := 0, errorJSON{Message: err.Error()}
	for _, k := range t {
		switch {
		case !errors.Is(err, k.Err):
		case j.Kind == "":
			j.Kind, status = k.Name, k.Status
		default:
			j.Also = append(j.Also, k.Name)
		}
	}
	if j.Kind == "" {
		j.Kind = "internal"
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	return status, j
}

// decode is the inverse of encode.
func (t errorTable) decode(j errorJSON) error {
	e := &remoteError{message: j.Message}
	for _, name := range append([]string{j.Kind}, j.Also...) {
		for _, k := range t {
			if k.Name == name {
				e.kinds = append(e.kinds, k.Err)
			}
		}
	}
	return e
}

// decodeResponse reads the error that a response with a status of 400 or more stands for.
func (t errorTable) decodeResponse(r *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxJSON))
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w: %w", snapshot.ErrUnavailable, err)
	}
	var j errorJSON
	if json.Unmarshal(body, &j) != nil || j.Message == "" {
		text, _, _ := strings.Cut(string(body[:min(len(body), 200)]), "\n")
		return fmt.Errorf("the daemon answered %s: %q", r.Status, text)
	}
	return t.decode(j)
}

// remoteError is an error of the server, with the server's words for it.
type remoteError struct {
	message string
	kinds   []error
}

func (e *remoteError) Error() string   { return e.message }
func (e *remoteError) Unwrap() []error { return e.kinds }
