// Package docker is a volume driver for Docker: an HTTP handler that answers the engine's volume plugin protocol, version
// 1, with volumes of a [volume.Manager].
//
// Start with [New], served with [WithEngine] on a socket in /run/docker/plugins; the socket's name is the driver's.
//
// It guarantees: what the engine is told is durable. An unmount is recorded before anything is waited for, and answered
// before the engine stops waiting, whatever a commit takes; who was told of a mount keeps it over the death of this process.
// Nothing but Create from, and Mount of, what is not on this host waits for another one.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume"
)

const (
	// DefaultMountTime is how long a mount may take. The engine waits for 120 s, and sends no unmount after that.
	DefaultMountTime = 110 * time.Second
	// DefaultUnmountTime is how long a commit at an unmount is waited for. The engine waits for 60 s.
	DefaultUnmountTime = 50 * time.Second
	// DefaultAgain is how often the end of a mount that could not be recorded is tried again.
	DefaultAgain = 5 * time.Second

	// mostRequest is the largest request in bytes.
	mostRequest = 1 << 20
	contentType = "application/vnd.docker.plugins.v1.1+json"
)

// Keys of log records.
const (
	logVolume  = "volume"
	logCall    = "call"
	logError   = "error"
	logWarning = "warning"
	logName    = "name"
	logRoot    = "root"
	logUser    = "user"
	logPID     = "pid"
)

// Volumes are what the driver offers. A [volume.Manager] is such.
type Volumes interface {
	Do(ctx context.Context, op volume.Operation) (volume.Result, error)
	// Leave records that what somebody asked for once for a user is over, and reports whether the volume is mounted for the
	// user still, because he asked more often. It waits for nothing that is done to the volume.
	Leave(name, user, by string) (stays bool, err error)
	Describe(ctx context.Context, name string) (*volume.Info, error)
	List(ctx context.Context, o volume.ListOptions) ([]volume.Info, error)
}

var _ Volumes = (*volume.Manager)(nil)

// Options of a Driver. Volumes is required.
type Options struct {
	Volumes Volumes
	// Resolve finds the CID of the snapshot that a volume is to begin as; nil: it is given by what Volumes know.
	Resolve func(ctx context.Context, ref string) (string, error)
	// Replicas says how many replicas of a head there are, if that is known without asking anybody; nil: there is no cluster.
	Replicas    func(head cid.Cid) (text string, known bool)
	Global      bool          // other hosts have the same volumes: a swarm takes a volume of one node for that of all
	MountTime   time.Duration // DefaultMountTime if zero
	UnmountTime time.Duration // DefaultUnmountTime if zero
	Again       time.Duration // DefaultAgain if zero
	Logger      *slog.Logger  // nil discards
}

// Driver answers an engine. It must be made by New, and closed before Volumes.
type Driver struct {
	o   Options
	mux *http.ServeMux

	mu      sync.Mutex
	closed  bool
	running map[*context.CancelFunc]struct{} // of calls, and of what goes on when they were answered
	late    map[*ending]struct{}             // that are not recorded yet
	work    sync.WaitGroup
}

var _ http.Handler = (*Driver)(nil)

// request has the fields of all requests.
type request struct {
	Name string
	ID   string            // of a mount
	Opts map[string]string // of a volume that is made
}

// answer is what a call of the protocol answers with, in JSON.
type answer any

type call func(context.Context, request) (answer, error)

// New returns a driver.
func New(o Options) *Driver {
	if o.MountTime == 0 {
		o.MountTime = DefaultMountTime
	}
	if o.UnmountTime == 0 {
		o.UnmountTime = DefaultUnmountTime
	}
	if o.Again == 0 {
		o.Again = DefaultAgain
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Driver{o: o, mux: http.NewServeMux(), running: map[*context.CancelFunc]struct{}{}, late: map[*ending]struct{}{}}
	for path, f := range map[string]call{
		"/Plugin.Activate":           d.activate,
		"/VolumeDriver.Capabilities": d.capabilities,
		"/VolumeDriver.Create":       d.create,
		"/VolumeDriver.Get":          d.get,
		"/VolumeDriver.List":         d.list,
		"/VolumeDriver.Path":         d.path,
		"/VolumeDriver.Mount":        d.mount,
		"/VolumeDriver.Unmount":      d.unmount,
		"/VolumeDriver.Remove":       d.remove,
	} {
		d.mux.HandleFunc("POST "+path, d.answering(strings.TrimPrefix(path, "/"), f))
	}
	return d
}

// ServeHTTP implements [http.Handler]. What it does ends with the driver.
func (d *Driver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, end, err := d.begin(r.Context())
	if err != nil {
		refuse(w, err.Error())
		return
	}
	defer end()
	d.mux.ServeHTTP(w, r.WithContext(ctx))
}

// Close ends calls, and what goes on after they were answered, and waits for them. A commit that is cut so is made when the
// volume is started again.
func (d *Driver) Close() {
	d.mu.Lock()
	d.closed = true
	for cancel := range d.running {
		(*cancel)()
	}
	d.mu.Unlock()
	d.work.Wait()
}

// begin returns the context of what is done until the driver is closed, and what ends it. Nothing begins after that.
func (d *Driver) begin(ctx context.Context) (_ context.Context, end func(), _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, errClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	d.running[&cancel] = struct{}{}
	d.work.Add(1)
	return ctx, func() {
		cancel()
		d.mu.Lock()
		delete(d.running, &cancel)
		d.mu.Unlock()
		d.work.Done()
	}, nil
}

// goOn does something that goes on when the call that ctx is of was answered, and reports whether it does.
func (d *Driver) goOn(ctx context.Context, f func(context.Context)) bool {
	ctx, end, err := d.begin(context.WithoutCancel(ctx))
	if err != nil {
		return false
	}
	go func() {
		defer end()
		f(ctx)
	}()
	return true
}

// errClosed is of a call that comes while the daemon ends.
var errClosed = errors.New("the daemon is ending; run the command again when it is back")

// errAgain is of a call without anything in it. An engine whose connection ends before it has its answer calls again, and
// has nothing to send any more.
var errAgain = errors.New("the daemon ended while the engine waited for it, and the engine does not say again for which volume; run the command again")

// ofVolume reports whether a call is for a volume. The others may come without anything.
func ofVolume(call string) bool {
	switch call {
	case "Plugin.Activate", "VolumeDriver.Capabilities", "VolumeDriver.List":
		return false
	}
	return true
}

// answering answers with what a call returns.
func (d *Driver) answering(name string, f call) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req request
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostRequest)).Decode(&req)
		var res answer
		switch {
		case errors.Is(err, io.EOF) && ofVolume(name):
			err = errAgain
		case err != nil && !errors.Is(err, io.EOF):
			err = fmt.Errorf("read the engine's request: %w", err)
		default:
			res, err = f(r.Context(), req)
		}
		if err != nil {
			level := slog.LevelWarn
			if name == "VolumeDriver.Get" && errors.Is(err, volume.ErrNotFound) {
				level = slog.LevelDebug // an engine asks before it makes one
			}
			d.o.Logger.Log(r.Context(), level, "an engine's call failed", logCall, name, logVolume, req.Name, logError, err)
			refuse(w, d.explain(r.Context(), req.Name, err))
			return
		}
		w.Header().Set("Content-Type", contentType)
		if err := json.NewEncoder(w).Encode(res); err != nil {
			d.o.Logger.Debug("an engine did not wait for its answer", logCall, name, logError, err)
		}
	}
}

// refuse answers with an error, which is what another status than 200 is to an engine. It shows the Err to who asked.
func refuse(w http.ResponseWriter, says string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusInternalServerError)
	_ = json.NewEncoder(w).Encode(struct{ Err string }{says})
}
