package docker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/docker"
)

const body = `{"Name":"v","ID":"i"}`

// serving serves volume v on a socket, and returns what calls it over a connection of its own.
func serving(t *testing.T, f *fake, network, address string) (call func(name string)) {
	t.Helper()
	f.infos = map[string]*volume.Info{"v": {Name: "v", Sequence: 2}}
	d := docker.New(docker.Options{Volumes: f})
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(d)
	s.Listener.Close()
	s.Listener, s.Config.ConnContext = l, docker.WithEngine
	s.Start()
	t.Cleanup(d.Close)
	t.Cleanup(s.Close)
	return func(name string) {
		t.Helper()
		own := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, l.Addr().Network(), l.Addr().String())
		}}
		defer own.CloseIdleConnections()
		res, err := (&http.Client{Transport: own}).Post("http://engine/"+name, "", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: %s", name, res.Status)
		}
	}
}

func TestAnEngineIsItsProcessWhateverItsConnectionsAre(t *testing.T) {
	for network, c := range map[string]struct {
		address, process string
		visible          bool
	}{
		"unix": {filepath.Join(t.TempDir(), "s"), fmt.Sprint(os.Getpid()), true},
		"tcp":  {"127.0.0.1:0", "hidden-1", false}, // which says no more of who is there than a namespace of processes
	} {
		t.Run(network, func(t *testing.T) {
			f := &fake{}
			call := serving(t, f, network, c.address)
			for _, name := range []string{"VolumeDriver.Mount", "Plugin.Activate", "VolumeDriver.Mount", "VolumeDriver.Unmount"} {
				call(name)
			}
			by := f.did[0].(*volume.Mount).By
			if !strings.HasPrefix(by, c.process+"-") || docker.Visible(by) != c.visible {
				t.Errorf("the engine is %q, visible is %v; want %s, %v", by, docker.Visible(by), c.process, c.visible)
			}
			want := []volume.Operation{
				&volume.Mount{Name: "v", User: "docker:i", By: by}, &volume.Mount{Name: "v", User: "docker:i", By: by}, &volume.Unmount{Name: "v", Gone: true},
			}
			if d := cmp.Diff(want, f.did); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{by}, f.by); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatIsMountedOnceMoreIsNotUnmounted(t *testing.T) {
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v"}}, stays: true}
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Unmount", body); said != "" {
		t.Error(said)
	}
	if len(f.left) != 1 || len(f.did) > 0 {
		t.Errorf("%v left, and it did %v", f.left, f.did)
	}
}

// What is recorded of a mount that failed is what was before; what is mounted may be so for nobody.
func TestAMountThatTakesTooLongLeavesNothingMounted(t *testing.T) {
	f := &fake{infos: map[string]*volume.Info{"v": {Name: "v"}}}
	f.do = func(ctx context.Context, op volume.Operation) (volume.Result, error) {
		if _, is := op.(*volume.Mount); !is {
			return volume.Result{}, nil
		}
		<-ctx.Done()
		return volume.Result{}, errors.Join(errors.New("mount v"), ctx.Err())
	}
	d := docker.New(docker.Options{Volumes: f, MountTime: time.Millisecond})
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/VolumeDriver.Mount", strings.NewReader(body)))
	d.Close()
	if w.Code == 200 {
		t.Errorf("answered %s", w.Body)
	}
	if d := cmp.Diff(&volume.Unmount{Name: "v", Gone: true, NoWait: true}, f.did[len(f.did)-1]); d != "" || len(f.left) > 0 {
		t.Errorf("%s, and %v left", d, f.left)
	}
}
