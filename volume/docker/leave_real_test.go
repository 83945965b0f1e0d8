//go:build real

package docker_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

// TestWhatAnEngineUnmountedOnceIsUnmountedByTheNextDaemon has the engine killed as well, which asks again as long as it
// has no answer.
func TestWhatAnEngineUnmountedOnceIsUnmountedByTheNextDaemon(t *testing.T) {
	unmountedOnce(t, func(e *dockertest.Engine, _ <-chan error) {
		e.End(syscall.SIGKILL)
		e.Kill()
	}, func(e *dockertest.Engine) { e.Begin() })
}

// unmountedOnce removes a container while its volume is being committed, which takes for ever. end has the daemon killed
// when it knows that the container is gone; removed has what docker rm ends with. begin is called when the next one runs.
func unmountedOnce(t *testing.T, end func(e *dockertest.Engine, removed <-chan error), begin func(*dockertest.Engine)) {
	t.Helper()
	e := alone(t)
	began, hold := filepath.Join(e.Dir, "began"), filepath.Join(e.Dir, "hold")
	e.Sh("touch " + hold)
	create(e, "busy", "exec-before=touch "+began+"; while test -e "+hold+"; do sleep 0.02; done", "exec-timeout=1h")
	e.Docker("run", "-d", "--name", "writer", "--network", "none", "-v", "busy:/v", dockertest.Image, "sh", "-c", "echo last >/v/f; sleep 1000")
	e.UntilDocker("it has written", func(out string) bool { return out == "last" }, "exec", "writer", "cat", "/v/f")
	users := []string{"volume", "inspect", "-f", "{{.Status.users}}", "busy"}
	wantHas(t, "users", e.Docker(users...), "docker:")

	committed, removed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(committed)
		_, _ = e.Try(t.Context(), "volary", "volume", "commit", "busy")
	}()
	e.UntilDone("the commit has begun", func() error {
		_, err := e.Try(t.Context(), "test", "-e", began)
		return err
	})
	go func() {
		_, err := e.TryDocker(t.Context(), "rm", "-f", "writer")
		removed <- err
	}()
	e.UntilDocker("the daemon knows that the container is gone", func(out string) bool { return out == "<no value>" }, users...)
	end(e, removed)
	<-committed
	e.Sh("rm " + hold)
	e.Start()
	begin(e)
	want(t, "users", e.Docker(users...), "<no value>")
	e.UntilVolary("what was written last is committed", func(out string) bool { return strings.TrimSpace(out) == "last" }, "cat", "busy/f")
	e.UntilDone("the volume is removed", func() error {
		_, _ = e.TryDocker(t.Context(), "rm", "-f", "writer") // which an engine that was killed may have still
		_, err := e.TryDocker(t.Context(), "volume", "rm", "busy")
		return err
	})
	want(t, "mounts that are left", strings.TrimSpace(e.Sh("grep -c "+e.Home+"/volumes/overlays/ /proc/self/mounts || true")), "0")
}
