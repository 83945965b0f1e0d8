package docker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/docker"
)

// calling calls a driver that stays, and returns what it answers with.
func calling(t *testing.T, d *docker.Driver, call string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/VolumeDriver."+call, strings.NewReader(body)))
	return w
}

// written is a log that several write to.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *written) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// until waits until a text is logged.
func (w *written) until(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		has := strings.Contains(w.b.String(), text)
		w.mu.Unlock()
		if has {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not logged", text)
		}
	}
}

func TestALongUnmountIsAnsweredAndGoesOn(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	var cut error
	var left []string
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}}
	f.do = func(ctx context.Context, op volume.Operation) (volume.Result, error) {
		left = slices.Clone(f.left)
		close(began)
		<-end
		cut = ctx.Err()
		close(ended)
		return volume.Result{}, cut
	}
	d := docker.New(docker.Options{Volumes: f, UnmountTime: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/VolumeDriver.Unmount", bytes.NewBufferString(`{"Name":"v","ID":"i"}`)))
	if w.Code != 200 {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	<-began
	cancel() // the engine is gone
	close(end)
	<-ended
	d.Close()
	if cut != nil {
		t.Error("the unmount was cut when it was answered")
	}
	if d := cmp.Diff([]string{"v docker:i"}, left); d != "" {
		t.Errorf("what was recorded before anything was waited for: %s", d)
	}
	if d := cmp.Diff([]volume.Operation{&volume.Unmount{Name: "v", Gone: true}}, f.did); d != "" {
		t.Error(d)
	}
}

// What an image has is copied between two mounts. Its replicas are waited for by the volumes.
func TestTheFirstUnmountWaitsForTheCommitAndForNoReplicas(t *testing.T) {
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 1}}}
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Unmount", body); said != "" {
		t.Errorf("says %q", said)
	}
	if d := cmp.Diff([]volume.Operation{&volume.Unmount{Name: "v", Gone: true, NoWait: true}}, f.did); d != "" {
		t.Error(d)
	}
}

func TestAnUnmountThatFailsSaysSo(t *testing.T) {
	f := &fake{do: fails(errors.New("no")), infos: map[string]*volume.Info{"v": {Name: "v"}}}
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Unmount", `{"Name":"v","ID":"i"}`); said != "no" {
		t.Errorf("says %q", said)
	}
	did := len(f.did)
	f.leaves = errors.New("the disk is full")
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Unmount", `{"Name":"v","ID":"i"}`); said != "the disk is full" {
		t.Errorf("what is not recorded: says %q", said)
	}
	if len(f.did) != did {
		t.Errorf("what is not recorded is done: %v", f.did[did:])
	}
	f.leaves = nil
	f.do = fails(volume.ErrNotFound)
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Unmount", `{"Name":"v","ID":"i"}`); said != "" {
		t.Errorf("a volume that went meanwhile: says %q", said)
	}
	f.infos = nil
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Unmount", `{"Name":"v","ID":"i"}`); said != "" {
		t.Errorf("a volume that is gone: says %q", said)
	}
}

func TestAnUnmountThatFailsAfterItWasAnsweredIsLogged(t *testing.T) {
	answered := make(chan struct{})
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}}
	f.do = func(context.Context, volume.Operation) (volume.Result, error) {
		<-answered
		return volume.Result{}, errors.New("the disk is full")
	}
	var log written
	d := docker.New(docker.Options{Volumes: f, UnmountTime: time.Millisecond, Logger: log.logger()})
	if w := calling(t, d, "Unmount"); w.Code != 200 {
		t.Errorf("answered %s", w.Body)
	}
	close(answered)
	log.until(t, "the disk is full")
	d.Close()
}

func TestWhatAnUnmountWarnsOfIsLogged(t *testing.T) {
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}}
	f.do = func(context.Context, volume.Operation) (volume.Result, error) {
		return volume.Result{Lagging: true, Warning: "too few peers hold it"}, nil
	}
	var log written
	if _, said := ask(t, docker.Options{Volumes: f, Logger: log.logger()}, "VolumeDriver.Unmount", body); said != "" {
		t.Errorf("says %q", said)
	}
	log.until(t, "too few peers hold it")
}

func TestAnEndThatIsNotRecordedIsRecordedLater(t *testing.T) {
	unmounted := make(chan struct{})
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}, leaves: errors.New("the disk is full"), refuse: 3}
	f.do = func(context.Context, volume.Operation) (volume.Result, error) {
		close(unmounted)
		return volume.Result{}, nil
	}
	d := docker.New(docker.Options{Volumes: f, Again: time.Millisecond})
	if w := calling(t, d, "Unmount"); w.Code == 200 || !strings.Contains(w.Body.String(), "the disk is full") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	<-unmounted
	d.Close()
	if d := cmp.Diff(slices.Repeat([]string{"v docker:i"}, 4), f.left); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"engine", "engine", "engine", "engine"}, f.by); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]volume.Operation{&volume.Unmount{Name: "v", Gone: true}}, f.did); d != "" {
		t.Error(d)
	}
}

// leaving is volumes of which no end is recorded until full is closed.
type leaving struct {
	fake
	full chan struct{}

	mu   sync.Mutex
	left []string
}

func (l *leaving) Leave(_, user, by string) (stays bool, err error) {
	select {
	case <-l.full:
	default:
		return false, errors.New("the disk is full")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = append(l.left, user+" of "+by)
	return true, nil
}

// until waits until the end of a user's mount is recorded, and returns whose ends are.
func (l *leaving) until(t *testing.T, user string) (left string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(left, user); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the end of %s is not recorded: %s", user, left)
		}
		l.mu.Lock()
		left = strings.Join(l.left, ", ")
		l.mu.Unlock()
	}
	return left
}

func TestAnEndThatIsRecordedLaterIsNotOfAMountOfAnotherEngine(t *testing.T) {
	for _, fails := range []error{nil, errors.New("no")} {
		l := &leaving{full: make(chan struct{})}
		l.do = func(context.Context, volume.Operation) (volume.Result, error) { return volume.Result{}, fails }
		d := docker.New(docker.Options{Volumes: l, Again: 10 * time.Millisecond})
		calling(t, d, "Unmount")
		one, other := net.Pipe()
		ctx := docker.WithEngine(t.Context(), one) // of another process than calling has
		for call, body := range map[string]string{"Mount": body, "Unmount": `{"Name":"v","ID":"last"}`} {
			d.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/VolumeDriver."+call, strings.NewReader(body)))
		}
		close(l.full)
		if fails != nil {
			l.until(t, "docker:i of engine") // nothing was mounted
		}
		if left := l.until(t, "docker:last of hidden-1-"); fails == nil && strings.Contains(left, "docker:i") {
			t.Errorf("a mount of another engine is ended: %s", left)
		}
		d.Close()
		one.Close()
		other.Close()
	}
}

func TestWhatADriverDoesEndsWithIt(t *testing.T) {
	began := make(chan struct{})
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}}
	ended := false
	f.do = func(ctx context.Context, _ volume.Operation) (volume.Result, error) {
		close(began)
		<-ctx.Done()
		ended = true
		return volume.Result{}, ctx.Err()
	}
	d := docker.New(docker.Options{Volumes: f})
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- calling(t, d, "Mount") }()
	<-began
	d.Close()
	if !ended {
		t.Fatal("a mount goes on when the driver is closed")
	}
	for _, w := range []*httptest.ResponseRecorder{<-answer, calling(t, d, "Mount")} {
		if w.Code == 200 || !strings.Contains(w.Body.String(), "run the command again") {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	}
	if len(f.did) != 1 {
		t.Errorf("a driver that is closed did %v", f.did[1:])
	}
}

// That somebody is gone was recorded, and the next process commits.
func TestAnUnmountThatTheEndOfTheDriverCutsIsNoError(t *testing.T) {
	began := make(chan struct{})
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}}
	f.do = func(ctx context.Context, _ volume.Operation) (volume.Result, error) {
		close(began)
		<-ctx.Done()
		return volume.Result{}, ctx.Err()
	}
	d := docker.New(docker.Options{Volumes: f})
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- calling(t, d, "Unmount") }()
	<-began
	d.Close()
	if w := <-answer; w.Code != 200 {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}
