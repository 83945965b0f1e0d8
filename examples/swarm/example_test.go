//go:build real

package example_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/volume/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

// movedIn is longer than a swarm takes to miss a node, and a namespace to take it for one that writes no more.
const movedIn = 3 * time.Minute

// show is where the service runs, and how far it was when it was last committed.
func show(t *testing.T, e *dockertest.Engine, script string) (node string, n int) {
	t.Helper()
	out, err := e.Try(t.Context(), script, "show")
	words := strings.Fields(out)
	if err != nil || len(words) < 3 || words[1] != "Running" {
		return "", 0
	}
	n, err = strconv.Atoi(words[len(words)-1])
	if err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return words[0], n
}

// shows waits until the service is on a node and has come so far, and returns how far.
func shows(t *testing.T, e *dockertest.Engine, script, node string, least int) int {
	t.Helper()
	for deadline := time.Now().Add(movedIn); ; time.Sleep(200 * time.Millisecond) {
		at, n := show(t, e, script)
		if at == node && n >= least {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("the service is at %d on %q, not at %d on %q\n%s", n, at, least, node, e.Docker("service", "ps", "--no-trunc", "counter"))
		}
	}
}

func TestAServiceGoesOnFromTheLastCommitWhenItsNodeIsKilled(t *testing.T) {
	t.Setenv("IMAGE", dockertest.Image)
	script, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	script += "/run.sh"
	all := dockertest.Together(t, "../../bin/volary", "alpha", "beta")
	a, b := all[0], all[1]
	for _, e := range all {
		e.Do(script, "ready")
	}
	a.Docker("swarm", "init", "--advertise-addr", a.IP)
	b.Docker("swarm", "join", "--advertise-addr", b.IP, "--token", a.Docker("swarm", "join-token", "-q", "worker"), a.IP+":2377")
	a.Docker("node", "update", "--availability", "drain", "alpha")
	a.Do(script, "start")
	shows(t, a, script, "beta", 1)
	a.Do(script, "keep")
	a.Docker("node", "update", "--availability", "active", "alpha")
	counted := shows(t, a, script, "beta", 40)

	// The node is gone: its network, its engine and its daemon.
	b.Cut()
	b.End(syscall.SIGKILL)
	b.Kill()
	began := time.Now()
	n := shows(t, a, script, "alpha", counted+40)
	t.Logf("at %d %s after its node was gone", n, time.Since(began).Round(time.Second))
	log := strings.Split(strings.TrimSpace(a.Volary("cat", "counter/log")), "\n")
	begins, err := strconv.Atoi(strings.TrimPrefix(log[len(log)-1], "begins at "))
	if err != nil || len(log) != 2 || begins < counted {
		t.Errorf("it has begun %q, %v; want twice, and the second time at %d at least", log, err, counted)
	}
	a.Do(script, "clear")
	if left := a.Docker("volume", "ls", "-q"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
