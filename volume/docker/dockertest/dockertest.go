// Package dockertest has real Docker engines for tests, each on a host of its own.
//
// Start with [Start]. An [Engine] has no image but [Image], no bridge, and reaches nothing outside of its host; what it
// stores is in the host's directory and gone with it. A daemon of the same host is its volume driver, [Driver].
package dockertest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/p2p/nettest"
)

const (
	// Image has a shell and the usual small commands, at /bin.
	Image = "box"
	// Driver is what engines call the driver.
	Driver = "volary"
	// Socket is where a daemon has to listen to be that.
	Socket = "/run/docker/plugins/volary.sock"

	// own is a directory that each host has for itself. Paths of sockets must be short.
	own     = "/run/docker"
	address = "unix://" + own + "/docker.sock"
	pidFile = own + "/docker.pid"

	readyTime = 90 * time.Second
)

// Engine is a Docker engine. Its methods fail the test where something goes wrong, unless they say something else.
type Engine struct {
	*nettest.Host

	t      testing.TB
	data   string
	engine *nettest.Process
}

// Start starts an engine on a host.
func Start(t testing.TB, h *nettest.Host) *Engine {
	t.Helper()
	e := &Engine{Host: h, t: t, data: filepath.Join(h.Dir, "images")}
	e.prepare()
	e.Begin()
	e.load()
	return e
}

// prepare has the host have what an engine needs.
func (e *Engine) prepare() {
	e.t.Helper()
	e.Sh("mkdir -p " + own + " && mount -t tmpfs tmpfs " + own + " && mkdir " + own + "/plugins")
	e.Do("ip", "link", "set", "lo", "up")
}

// Reboot is [nettest.Host.Reboot], after which neither the engine nor the daemon run.
func (e *Engine) Reboot() {
	e.t.Helper()
	e.Host.Reboot()
	e.prepare()
}

// Begin starts the engine, which does not run, with what it had, and returns when it answers.
func (e *Engine) Begin(options ...string) {
	e.t.Helper()
	// Of one that was killed. Its containerd may not have ended yet, and would be taken for one that goes on.
	e.Sh("p=" + own + "/exec/containerd/containerd.pid; for i in $(seq 500); do kill -0 $(cat $p) 2>/dev/null || break; sleep 0.02; done; rm -f $p " + pidFile)
	e.engine = e.Run("engine", append([]string{
		"dockerd", "--data-root", e.data, "--exec-root", own + "/exec", "-H", address, "--pidfile", pidFile,
		"--log-level=warn", "--iptables=false", "--ip6tables=false", "--bridge=none",
	}, options...)...)
	for deadline := time.Now().Add(readyTime); ; time.Sleep(20 * time.Millisecond) {
		_, err := e.TryDocker(e.t.Context(), "version")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("the engine of %s does not answer: %v", e.Name, err)
		}
	}
}

// End ends the engine by a signal.
func (e *Engine) End(s syscall.Signal) {
	e.t.Helper()
	e.engine.End(s)
}

// load makes the image.
func (e *Engine) load() {
	e.t.Helper()
	e.Sh(`set -eu
mkdir -p image/bin image/data image/tmp image/etc
cp "$(command -v busybox)" image/bin/busybox
for name in $(busybox --list); do [ $name = busybox ] || ln -s busybox image/bin/$name; done
echo "root:x:0:0::/:/bin/sh" >image/etc/passwd
echo image >image/data/from-image
chown 7:8 image/data/from-image
tar -C image -c . | docker -H ` + address + ` import - ` + Image)
}

// Part runs a part of the test, which failures in it are of.
func (e *Engine) Part(name string, does func(*testing.T, *Engine)) {
	whole := e.t.(*testing.T)
	whole.Run(name, func(t *testing.T) {
		e.t = t
		e.In(t)
		does(t, e)
	})
	e.t = whole
	e.In(whole)
}

// UntilDocker runs docker until it goes well and prints what is wanted.
func (e *Engine) UntilDocker(what string, wanted func(out string) bool, args ...string) {
	e.t.Helper()
	e.until(what, wanted, func() (string, error) { return e.TryDocker(e.t.Context(), args...) })
}

// UntilVolary is UntilDocker for the program.
func (e *Engine) UntilVolary(what string, wanted func(out string) bool, args ...string) {
	e.t.Helper()
	e.until(what, wanted, func() (string, error) { return e.Try(e.t.Context(), append([]string{"volary"}, args...)...) })
}

func (e *Engine) until(what string, wanted func(out string) bool, run func() (string, error)) {
	e.t.Helper()
	e.UntilDone(what, func() error {
		out, err := run()
		if err == nil && !wanted(out) {
			err = fmt.Errorf("got %s", out)
		}
		return err
	})
}

// UntilDone tries something until it goes well.
func (e *Engine) UntilDone(what string, try func() error) {
	e.t.Helper()
	for deadline := time.Now().Add(readyTime); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("not within %s: %s: %v", readyTime, what, err)
		}
	}
}

// TryDocker runs docker with these arguments, and returns what it prints and the error. It can be called from any goroutine.
func (e *Engine) TryDocker(ctx context.Context, args ...string) (string, error) {
	out, err := e.Try(ctx, append([]string{"docker", "-H", address}, args...)...)
	return strings.TrimSpace(out), err
}

// Docker runs docker with these arguments, and returns what it prints without white space around it.
func (e *Engine) Docker(args ...string) string {
	e.t.Helper()
	out, err := e.TryDocker(e.t.Context(), args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// Refuses runs docker, which must fail and say something.
func (e *Engine) Refuses(says string, args ...string) {
	e.t.Helper()
	out, err := e.TryDocker(e.t.Context(), args...)
	if err == nil || !strings.Contains(err.Error(), says) {
		e.t.Errorf("docker %s: %q, %v; want an error that says %q", strings.Join(args, " "), out, err, says)
	}
}

// Box runs a line of sh in a container that is gone afterwards. Options are of docker run.
func (e *Engine) Box(line string, options ...string) string {
	e.t.Helper()
	return e.Docker(box(line, options)...)
}

func box(line string, options []string) []string {
	return append(append([]string{"run", "--rm", "--network", "none"}, options...), Image, "sh", "-c", line)
}
