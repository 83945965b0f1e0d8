package main

import (
	"bytes"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/volume/api"
)

// silent is the address of a server that takes connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

func volary(t *testing.T, want int, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"volary"}, args...), &stdout, &stderr); code != want {
		t.Fatalf("%q: exit code %d, want %d\n%s%s", args, code, want, &stdout, &stderr)
	}
	return stdout.String()
}

func TestStatusAnswersWhileServersStall(t *testing.T) {
	home := filepath.Join(t.TempDir(), "state")
	volary(t, exitOK, "--home", home, "init")
	kubo, cluster := silent(t), silent(t)
	begin := time.Now()
	out := volary(t, exitOK, "--home", home, "--kubo", kubo, "--cluster", cluster, "status", "--json")
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("a status took %s", took)
	}
	var st api.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatal(err)
	}
	if st.Kubo == nil || st.Cluster == nil || st.Outbox == nil {
		t.Fatalf("status lacks a server: %s", out)
	}
	if !strings.Contains(st.Kubo.Error, kubo) || !strings.Contains(st.Cluster.Error, cluster) {
		t.Errorf("errors do not name the servers: %q, %q", st.Kubo.Error, st.Cluster.Error)
	}
}

func TestClocksThatDifferAreBroken(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for there, want := range map[time.Time]health{
		now: healthy, now.Add(-time.Second): healthy, now.Add(time.Minute): broken, now.Add(-time.Hour): broken, {}: healthy,
	} {
		if f := clockFinding(there, now, now); f.Health != want || want == broken && f.Remedy == "" {
			t.Errorf("clock at %s: %+v, want %s", there, f, want)
		}
	}
	if f := clockFinding(now.Add(-30*time.Second), now.Add(-time.Minute), now); f.Health != healthy {
		t.Errorf("of an answer that took a minute: %+v", f)
	}
}

func TestOldKernelsAreTold(t *testing.T) {
	for release, want := range map[string]health{
		"6.18.44-x": healthy, "6.9.0": healthy, "7.0.1": healthy, "6.8.0-generic": slow, "5.15.0": slow, "odd": slow,
	} {
		if f := kernelFinding("kernel", release); f.Health != want {
			t.Errorf("%s is %s, want %s", release, f.Health, want)
		}
	}
}

func TestAPeerThatTheClusterGaveUpLags(t *testing.T) {
	peers := []cluster.Peer{{ID: "a", Name: "one"}, {ID: "b", Name: "two"}, {ID: "c", Name: "three"}}
	st := pinset.Status{Replicas: []pinset.Replica{{Peer: "a", Pinned: true}, {Peer: "b"}}}
	if got := strings.Join(lagging(peers, st), " "); got != "two three" {
		t.Errorf("%q lag, want two and three", got)
	}
}
