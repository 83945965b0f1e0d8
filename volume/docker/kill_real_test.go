//go:build real

package docker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/volume/docker/dockertest"
)

// killRounds is how often something is killed in a run that is not long.
const killRounds = 8

func TestNothingIsStuckOrLostWhateverIsKilled(t *testing.T) { killed(t, killRounds) }

// killed has something killed while an engine makes, mounts, unmounts and removes volumes, and looks afterwards that all
// that was committed is there, that volumes can be used and removed, and that no mount is left.
func killed(t *testing.T, rounds int) {
	seed := rand.Uint64()
	if text := os.Getenv("KILL_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("KILL_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	e := alone(t)
	create(e, "kept")
	e.Box("echo line >/v/log", "-v", "kept:/v")
	lines := 1 // that were committed
	for round := range rounds {
		ctx, stop := context.WithCancel(t.Context())
		busy := make(chan struct{})
		go func() {
			defer close(busy)
			work(ctx, e, round)
		}()
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		what := []string{"daemon", "engine", "containers", "both"}[r.IntN(4)]
		kill(e, what)
		stop()
		<-busy
		again(e, what)
		want(t, "volumes right afterwards", e.Docker("volume", "ls", "-q", "-f", "name=kept"), "kept")
		clear(t, e, fmt.Sprintf("round %d, %s killed: no container and no volume is stuck", round, what), "kept")
		got := strings.Fields(e.Volary("cat", "kept/log"))
		if len(got) < lines {
			t.Fatalf("round %d, %s killed: %d lines of %d that were committed", round, what, len(got), lines)
		}
		lines = len(got)
	}
	clear(t, e, "the last volume goes", "")
	if left := e.Sh("grep -c " + e.Home + "/volumes/overlays/ /proc/self/mounts || true"); strings.TrimSpace(left) != "0" {
		t.Errorf("%s mounts are left", left)
	}
	t.Logf("%d rounds, %d lines", rounds, lines)
}

// work makes volumes and containers until ctx is done or something that it uses is killed.
func work(ctx context.Context, e *dockertest.Engine, round int) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("round%d-%d", round, i)
		for _, args := range [][]string{
			{"run", "--rm", "--network", "none", "-v", "kept:/v", dockertest.Image, "sh", "-c", "echo line >>/v/log"},
			{"volume", "create", "-d", dockertest.Driver, name},
			{"run", "-d", "--name", name, "--network", "none", "-v", name + ":/data", "-v", "kept:/v:ro", dockertest.Image, "sleep", "1000"},
			{"rm", "-f", name},
			{"volume", "rm", name},
		} {
			if _, err := e.TryDocker(ctx, args...); err != nil {
				return
			}
		}
	}
}

func kill(e *dockertest.Engine, what string) {
	switch what {
	case "daemon":
		e.Kill()
	case "engine":
		e.End(syscall.SIGKILL)
	case "containers":
		e.Sh("pkill -9 -x sleep || true")
	default:
		e.Kill()
		e.End(syscall.SIGKILL)
	}
}

// again starts what was killed.
func again(e *dockertest.Engine, what string) {
	if what == "daemon" || what == "both" {
		e.Start()
	}
	if what == "engine" || what == "both" {
		e.Begin()
	}
}

// clear removes what a round left but for the volume kept. An engine finishes what it was asked for also if who asked was
// killed: a container that it still makes is not listed yet, and mounts volumes.
func clear(t *testing.T, e *dockertest.Engine, what, kept string) {
	t.Helper()
	e.UntilDone(what, func() error {
		ids, err := e.TryDocker(t.Context(), "ps", "-aq")
		if err != nil {
			return err
		}
		for _, id := range strings.Fields(ids) {
			if _, err = e.TryDocker(t.Context(), "rm", "-f", id); err != nil {
				return err // it may be going already
			}
		}
		names, err := e.TryDocker(t.Context(), "volume", "ls", "-q", "-f", "driver="+dockertest.Driver)
		for _, name := range strings.Fields(names) {
			err = errors.Join(err, forget(t, e, name))
			if name != kept {
				_, rm := e.TryDocker(t.Context(), "volume", "rm", "-f", name)
				err = errors.Join(err, rm)
			}
		}
		return err
	})
}

// orphan is how the daemon names a process that has a volume. There is one of no container if an engine was killed while it
// started that: the next engine does not know that it came so far, and does not end it.
var orphan = regexp.MustCompile(` of \S+ \((\d+)\)`)

// forget tells the daemon of containers that are gone, which an engine that was killed does not.
func forget(t *testing.T, e *dockertest.Engine, name string) error {
	_, err := e.Try(t.Context(), "volary", "volume", "umount", "--containers", name)
	if err == nil || strings.Contains(err.Error(), "is not mounted") {
		return nil
	}
	if m := orphan.FindStringSubmatch(err.Error()); m != nil {
		_, _ = e.Try(t.Context(), "kill", "-9", m[1])
	}
	return err
}
