//go:build real

package docker_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

func TestOneEngineAtATimeWritesToAVolume(t *testing.T) {
	all := engines(t, "alpha", "beta")
	a, b := all[0], all[1]
	create(a, "data")
	a.Box("echo first >/v/log", "-v", "data:/v")
	b.UntilVolary("the other host has it", func(out string) bool { return out == "first\n" }, "cat", "data/log")
	field := func(e *dockertest.Engine, key string) string {
		return e.Docker("volume", "inspect", "-f", "{{.Status."+key+"}}", "data")
	}

	begin(a, "writer", "data")
	for _, says := range []string{"is mounted for writing on another host: alpha (", "-o from=data -o readonly=true", "`volary volume mount --steal data`"} {
		b.Refuses(says, "run", "--rm", "--network", "none", "-v", "data:/v", dockertest.Image, "true")
	}
	b.Refuses("alpha", "volume", "rm", "data")
	want(t, "whose it is", field(a, "lease"), "this host")
	wantHas(t, "whose it is elsewhere", field(b, "lease"), "alpha (")
	want(t, "who has it here, who was refused", field(b, "users"), "<no value>")
	want(t, "containers of it", b.Docker("ps", "-aq"), "")

	a.Docker("exec", "writer", "sh", "-c", "echo second >>/v/log")
	create(b, "reader", "from=data", "readonly=true")
	want(t, "read meanwhile", b.Box("cat /v/log", "-v", "reader:/v"), "first")
	b.Refuses("Read-only file system", "run", "--rm", "-v", "reader:/v", dockertest.Image, "touch", "/v/x")
	a.Docker("rm", "-f", "writer")
	want(t, "written at once when the other has ended", b.Box("echo third >>/v/log; cat /v/log", "-v", "data:/v"), "first\nsecond\nthird")

	// Who takes it over does not wait for the other.
	begin(b, "writer", "data")
	a.Refuses("beta (", "run", "--rm", "--network", "none", "-v", "data:/v", dockertest.Image, "true")
	a.Volary("volume", "mount", "--steal", "data")
	a.Box("echo alpha >>/v/log", "-v", "data:/v")
	b.Docker("exec", "writer", "sh", "-c", "echo beta >>/v/log")
	a.Volary("volume", "umount", "data")
	b.Docker("rm", "-f", "writer")
	for _, e := range all {
		e.UntilVolary("both states are kept", func(out string) bool { return strings.Count(strings.TrimSpace(out), "\n") == 2 }, "volume", "forks", "data")
		e.UntilDocker("they are told of", func(out string) bool { return out == "1" }, "volume", "inspect", "-f", "{{.Status.forks}}", "data")
	}
	oneOfTwo(t, all)
}

// oneOfTwo has containers that want to write to a volume begin on all hosts at once.
func oneOfTwo(t *testing.T, all []*dockertest.Engine) {
	create(all[0], "wanted")
	for _, e := range all {
		e.UntilDocker("it is listed", func(out string) bool { return out == "wanted" }, "volume", "ls", "-q", "-f", "name=wanted")
	}
	for range 3 {
		var work sync.WaitGroup
		errs := make([]error, len(all))
		for i, e := range all {
			work.Go(func() {
				_, errs[i] = e.TryDocker(context.Background(), "run", "-d", "--name", "wants", "--network", "none", "-v", "wanted:/v", dockertest.Image, "sleep", "100000")
			})
		}
		work.Wait()
		var writers int
		for _, err := range errs {
			if err == nil {
				writers++
			} else if !strings.Contains(err.Error(), "is mounted for writing on another host") {
				t.Errorf("neither writes nor is refused: %v", err)
			}
		}
		if writers > 1 {
			t.Errorf("%d write at once", writers)
		}
		for _, e := range all {
			e.Docker("rm", "-f", "wants") // one that did not start is there as well
		}
	}
}
