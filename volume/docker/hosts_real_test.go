//go:build real

package docker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/volume/docker/dockertest"
)

// leaseTime is longer than a lease counts of a host that is not heard of any more.
const leaseTime = 3 * time.Minute

// engines are hosts of one namespace, each with an engine and its driver.
func engines(t *testing.T, names ...string) []*dockertest.Engine {
	t.Helper()
	return dockertest.Together(t, program, names...)
}

func TestAVolumeFollowsItsContainerToAnotherHost(t *testing.T) {
	all := engines(t, "alpha", "beta")
	a, b := all[0], all[1]
	create(a, "data", "commit=2s")
	want(t, "scope", a.Docker("volume", "inspect", "-f", "{{.Scope}}", "data"), "global")
	b.UntilDocker("the other host lists it", func(out string) bool { return out == "data" }, "volume", "ls", "-q", "-f", "name=data")

	a.Box("seq 100000 >/v/numbers; echo a >>/v/log", "-v", "data:/v")
	want(t, "on the other host", b.Box("wc -l </v/numbers; echo b >>/v/log; cat /v/log", "-v", "data:/v"), "100000\na\nb")
	want(t, "and back", a.Box("cat /v/log", "-v", "data:/v"), "a\nb")

	// It is committed there by itself as well: what it was made with goes with it.
	want(t, "options on the other host", b.Docker("volume", "inspect", "-f", "{{.Status.options.commit}}", "data"), "2s")
	b.Docker("run", "-d", "--name", "writer", "--network", "none", "-v", "data:/v", dockertest.Image, "sh", "-c", "echo moved >>/v/log; sleep 1000")
	b.UntilVolary("what it wrote is committed", func(out string) bool { return strings.Contains(out, "moved") }, "cat", "data/log")
	wantHas(t, "as the volume says", b.Volary("volume", "inspect", "data"), "commit=2s, by its commits")
	b.Docker("rm", "-f", "writer")

	a.Docker("run", "-d", "--name", "holder", "--network", "none", "-v", "data:/v", dockertest.Image, "sh", "-c", "echo held >>/v/log; sleep 1000")
	b.Refuses("alpha", "run", "--rm", "-v", "data:/v", dockertest.Image, "true")
	b.UntilVolary("what it wrote is known", func(out string) bool { return strings.Contains(out, "held") }, "cat", "data/log")

	// The host is gone: its engine, its daemon and its network.
	a.Cut()
	a.End(syscall.SIGKILL)
	a.Kill()
	began := time.Now()
	for {
		out, err := b.TryDocker(t.Context(), "run", "--rm", "--network", "none", "-v", "data:/v", dockertest.Image, "cat", "/v/log")
		if err == nil {
			want(t, "the last commit", out, "a\nb\nmoved\nheld")
			break
		}
		if !strings.Contains(err.Error(), "alpha") || time.Since(began) > leaseTime {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		time.Sleep(time.Second)
	}
	t.Logf("mounted elsewhere %s after its host was gone", time.Since(began).Round(time.Second))
}

func TestTenContainersReadADatasetThatAnotherHostHas(t *testing.T) {
	all := engines(t, "alpha", "beta")
	a, b := all[0], all[1]
	a.Sh("mkdir set && for i in $(seq 500); do seq $i 1000 >set/$i; done; head -c 50000000 /dev/urandom >set/large; sha256sum <set/large >sum")
	cid := a.Volary("snapshot", "set")
	sum := strings.Fields(a.Sh("cat sum"))[0]
	create(b, "set", "from="+cid, "readonly=true")
	var work sync.WaitGroup
	for i := range 10 {
		work.Go(func() {
			out, err := b.TryDocker(context.Background(), "run", "--rm", "--network", "none", "-v", "set:/v", dockertest.Image, "sh", "-c",
				fmt.Sprintf("head -n 1 /v/%d; ls /v | wc -l; sha256sum </v/large", 10*i+1))
			if wanted := fmt.Sprintf("%d\n501\n%s  -", 10*i+1, sum); err != nil || out != wanted {
				t.Errorf("container %d: %q, %v; want %q", i, out, err, wanted)
			}
		})
	}
	work.Wait()
}
