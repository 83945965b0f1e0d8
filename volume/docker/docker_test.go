package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/docker"
)

// fake is volumes of which only what the driver asks of them is known.
type fake struct {
	infos map[string]*volume.Info
	did   []volume.Operation
	do    func(context.Context, volume.Operation) (volume.Result, error)

	left   []string // of which volumes who is gone
	by     []string // who said so
	stays  bool
	leaves error
	refuse int // how many times leaves is said; 0: always
}

func (f *fake) Do(ctx context.Context, op volume.Operation) (volume.Result, error) {
	f.did = append(f.did, op)
	if f.do == nil {
		return volume.Result{}, nil
	}
	return f.do(ctx, op)
}

func (f *fake) Leave(name, user, by string) (stays bool, err error) {
	if _, ok := f.infos[name]; !ok {
		return false, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
	}
	f.left, f.by = append(f.left, name+" "+user), append(f.by, by)
	if f.refuse > 0 && len(f.left) > f.refuse {
		return f.stays, nil
	}
	return f.stays, f.leaves
}

func (f *fake) Describe(_ context.Context, name string) (*volume.Info, error) {
	if i, ok := f.infos[name]; ok {
		return i, nil
	}
	return nil, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
}

func (f *fake) List(context.Context, volume.ListOptions) (all []volume.Info, _ error) {
	for _, i := range f.infos {
		all = append(all, *i)
	}
	return all, nil
}

func fails(err error) func(context.Context, volume.Operation) (volume.Result, error) {
	return func(context.Context, volume.Operation) (volume.Result, error) { return volume.Result{}, err }
}

// ask calls a driver as an engine does, and returns the answer and its Err.
func ask(t *testing.T, o docker.Options, call, body string) (answer map[string]any, said string) {
	t.Helper()
	d := docker.New(o)
	t.Cleanup(d.Close)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/"+call, strings.NewReader(body)))
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s %s: status %d, %q: %v", call, body, w.Code, w.Body, err)
	}
	said, _ = answer["Err"].(string)
	if (said != "") != (w.Code != 200) {
		t.Errorf("%s %s: status %d, and says %q", call, body, w.Code, said)
	}
	return answer, said
}

func TestADriverSaysWhatItIs(t *testing.T) {
	o := docker.Options{Volumes: &fake{}}
	got, _ := ask(t, o, "Plugin.Activate", "")
	if d := cmp.Diff(map[string]any{"Implements": []any{"VolumeDriver"}}, got); d != "" {
		t.Error(d)
	}
	for global, scope := range map[bool]string{true: "global", false: "local"} {
		o.Global = global
		got, _ := ask(t, o, "VolumeDriver.Capabilities", "{}")
		if d := cmp.Diff(map[string]any{"Capabilities": map[string]any{"Scope": scope}}, got); d != "" {
			t.Error(d)
		}
	}
}

func TestAVolumeIsMadeWithItsOptions(t *testing.T) {
	f := &fake{}
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Create", `{"Name":"vol","Opts":{"from":"tag","commit":"5m"}}`); said != "" {
		t.Fatal(said)
	}
	want := []volume.Operation{&volume.Create{Name: "vol", From: "tag", Options: map[string]string{"commit": "5m"}}}
	if d := cmp.Diff(want, f.did); d != "" {
		t.Error(d)
	}
}

func TestWhatNoVolumeCanBeIsRefusedWithWhatCan(t *testing.T) {
	for body, says := range map[string]string{
		`{"Name":"../x"}`:                               "volume name",
		`{"Name":"a/b"}`:                                "volume name",
		`{"Name":"v"}`:                                  "one character",
		`{"Name":""}`:                                   "needs a name",
		`{"Name":"vol","Opts":{"size":"many"}}`:         "size=many",
		`{"Name":"vol","Opts":{"frm":"x"}}`:             "follow, from, gid",
		`{"Name":"vol","Opts":{"from":""}}`:             "from is a snapshot",
		`{"Name":"vol","Opts":{"overlay":"x"}}`:         "overlay is disk",
		`{"Name":"v"`:                                   "read the engine's request",
		`{"Name":"` + strings.Repeat("x", 2<<20) + `"}`: "read the engine's request",
	} {
		f := &fake{}
		_, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Create", body)
		if !strings.Contains(said, says) || strings.Contains(said, "\n") {
			t.Errorf("%.60s: says %q, want %q on one line", body, said, says)
		}
		if len(f.did) > 0 {
			t.Errorf("%.60s: did %v", body, f.did)
		}
	}
}

func TestAnEngineThatAsksAgainWithoutAnythingIsToldWhy(t *testing.T) {
	for _, call := range []string{"Create", "Get", "Path", "Mount", "Unmount", "Remove"} {
		f := &fake{}
		if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver."+call, ""); !strings.Contains(said, "run the command again") {
			t.Errorf("%s: says %q", call, said)
		}
		if len(f.did)+len(f.left) > 0 {
			t.Errorf("%s: did %v, and %v left", call, f.did, f.left)
		}
	}
	if _, said := ask(t, docker.Options{Volumes: &fake{}}, "VolumeDriver.List", ""); said != "" {
		t.Errorf("of all volumes: says %q", said)
	}
}

func TestAVolumeThatIsThereIsMadeOnlyAsItIs(t *testing.T) {
	f := &fake{do: fails(volume.ErrExist), infos: map[string]*volume.Info{"vol": {Name: "vol", Options: map[string]string{"commit": "5m"}}}}
	for body, same := range map[string]bool{
		`{"Name":"vol","Opts":{"commit":"5m"}}`:            true,
		`{"Name":"vol","Opts":{"commit":"6m"}}`:            false,
		`{"Name":"vol"}`:                                   false,
		`{"Name":"vol","Opts":{"commit":"5m","from":"x"}}`: false,
	} {
		if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Create", body); (said == "") != same {
			t.Errorf("%s: says %q", body, said)
		}
	}
}

func TestAMountSaysWhereAndForWhom(t *testing.T) {
	f := &fake{do: func(context.Context, volume.Operation) (volume.Result, error) { return volume.Result{Path: "/m"}, nil }}
	got, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Mount", `{"Name":"v","ID":"id1"}`)
	if said != "" || got["Mountpoint"] != "/m" {
		t.Errorf("%v, %q", got, said)
	}
	if d := cmp.Diff([]volume.Operation{&volume.Mount{Name: "v", User: "docker:id1", By: "engine"}}, f.did); d != "" {
		t.Error(d)
	}
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Mount", `{"Name":"v"}`); said == "" {
		t.Error("a mount of nobody is made")
	}
}

func TestAMountThatAnotherHostHasSaysWhoDoes(t *testing.T) {
	f := &fake{do: fails(fmt.Errorf("mount v: %w", volume.ErrLeased)), infos: map[string]*volume.Info{"v": {Name: "v", Lease: &volume.Lease{Peer: "12D3peer", Host: "alpha"}}}}
	_, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Mount", `{"Name":"v","ID":"i"}`)
	for _, part := range []string{"alpha (12D3peer)", "--steal v"} {
		if !strings.Contains(said, part) {
			t.Errorf("says %q, want %q", said, part)
		}
	}
	f.infos["v"].Lease.Ending = true
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Mount", `{"Name":"v","ID":"i"}`); !strings.Contains(said, "alpha") || !strings.Contains(said, "still being committed") {
		t.Errorf("of one that is being unmounted there it says %q", said)
	}
}

func TestAMountThatIsNotReadyInTimeSaysWhatItWaitedFor(t *testing.T) {
	f := &fake{do: fails(fmt.Errorf("mount v: get block bafyX: %w\nand more", context.DeadlineExceeded))}
	_, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Mount", `{"Name":"v","ID":"i"}`)
	for _, part := range []string{"volume v is not ready in time", "(mount v: get block bafyX: context deadline exceeded)", "volary volume inspect v"} {
		if !strings.Contains(said, part) {
			t.Errorf("says %q, want %q", said, part)
		}
	}
	if strings.Contains(said, "and more") || strings.Contains(said, "\n") {
		t.Errorf("says %q", said)
	}
}

func TestWhatIsKnownOfAVolumeIsInItsStatus(t *testing.T) {
	yes, no := true, false
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := &fake{infos: map[string]*volume.Info{"v": {
		Name: "v", Mountpoint: "/m", Created: made, Sequence: 7, Files: 2, Bytes: 9, Dirty: &yes, Users: []string{"docker:i"},
		Lease: &volume.Lease{Here: true}, Failure: &volume.Failure{Error: "full"}, Size: 20 << 20,
	}}}
	replicas := func(cid.Cid) (string, bool) { return "2/3", true }
	got, _ := ask(t, docker.Options{Volumes: f, Replicas: replicas}, "VolumeDriver.Get", `{"Name":"v"}`)
	v, _ := got["Volume"].(map[string]any)
	status, _ := v["Status"].(map[string]any)
	delete(status, "head")
	want := map[string]any{"sequence": 7.0, "files": 2.0, "bytes": 9.0, "dirty": true, "users": []any{"docker:i"}, "lease": "this host", "failure": "full", "replicas": "2/3", "size": "20 MiB"}
	if d := cmp.Diff(want, status); d != "" {
		t.Error(d)
	}
	f.infos["v"].SizeEnforced = &no
	got, _ = ask(t, docker.Options{Volumes: f}, "VolumeDriver.Get", `{"Name":"v"}`)
	if text := fmt.Sprint(got); !strings.Contains(text, "size:20 MiB, not enforced") {
		t.Errorf("a size that is only watched: %s", text)
	}
	if v["Name"] != "v" || v["Mountpoint"] != "/m" || v["CreatedAt"] != "2026-01-02T03:04:05Z" {
		t.Errorf("%v", v)
	}
	if _, said := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Get", `{"Name":"w"}`); !strings.Contains(said, `"w"`) {
		t.Errorf("a volume that is not there: says %q", said)
	}
	if got, _ := ask(t, docker.Options{Volumes: f}, "VolumeDriver.List", `{}`); len(got["Volumes"].([]any)) != 1 {
		t.Errorf("%v", got)
	}
	if got, _ := ask(t, docker.Options{Volumes: f}, "VolumeDriver.Path", `{"Name":"v"}`); got["Mountpoint"] != "/m" {
		t.Errorf("%v", got)
	}
}

func TestWhatAVolumeBeginsAsIsLookedUp(t *testing.T) {
	f := &fake{}
	o := docker.Options{Volumes: f, Resolve: func(_ context.Context, ref string) (string, error) {
		if ref == "lost" {
			return "", errors.New("it is lost")
		}
		return "cid of " + ref, nil
	}}
	if _, said := ask(t, o, "VolumeDriver.Create", `{"Name":"vol","Opts":{"from":"tag"}}`); said != "" {
		t.Error(said)
	}
	if _, said := ask(t, o, "VolumeDriver.Create", `{"Name":"vol","Opts":{"from":"lost"}}`); said != "option from=lost: it is lost" {
		t.Errorf("says %q", said)
	}
	if d := cmp.Diff([]volume.Operation{&volume.Create{Name: "vol", From: "cid of tag", Options: map[string]string{}}}, f.did); d != "" {
		t.Error(d)
	}
}

// What containers do to volumes is found in the log as what commands do.
func TestWhatAnEngineHasDoneIsInTheLog(t *testing.T) {
	var log bytes.Buffer
	f := &fake{infos: map[string]*volume.Info{"vol": {Name: "vol", Sequence: 2}}}
	o := docker.Options{Volumes: f, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, c := range []struct{ call, body, says string }{
		{"Create", `{"Name":"vol"}`, `msg="volume create" name=vol root="" pid=engine`},
		{"Mount", `{"Name":"vol","ID":"i"}`, `msg="volume mount" name=vol root="" pid=engine user=docker:i`},
		{"Unmount", `{"Name":"vol","ID":"i"}`, `msg="volume unmount" name=vol root="" pid=engine user=docker:i`},
		{"Remove", `{"Name":"vol"}`, `msg="volume remove" name=vol root="" pid=engine`},
		{"Get", `{"Name":"vol"}`, ""},
		{"List", `{}`, ""},
	} {
		log.Reset()
		if _, said := ask(t, o, "VolumeDriver."+c.call, c.body); said != "" {
			t.Fatalf("%s: says %q", c.call, said)
		}
		_, got, _ := strings.Cut(strings.TrimSuffix(log.String(), "\n"), "level=INFO ")
		if got != c.says {
			t.Errorf("%s: the log says %q, want %q", c.call, got, c.says)
		}
	}
	log.Reset()
	f.do = fails(errors.New("no"))
	if ask(t, o, "VolumeDriver.Remove", `{"Name":"vol"}`); strings.Contains(log.String(), "INFO") {
		t.Errorf("what failed: %s", &log)
	}
}
