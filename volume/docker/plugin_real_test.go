//go:build real

package docker_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/volume/docker/dockertest"
)

const plugin = "volary:latest"

// TestAManagedPluginIsADriver has no daemon but the one in the plugin.
func TestAManagedPluginIsADriver(t *testing.T) {
	h := nettest.New(t, program).Host("one")
	e := dockertest.Start(t, h)
	made := h.Dir + "/plugin"
	if out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "-o", "build", "PLUGIN="+made, "plugin").CombinedOutput(); err != nil {
		t.Fatalf("make plugin: %v\n%s", err, out)
	}
	e.Docker("plugin", "create", plugin, made)
	e.Docker("plugin", "set", plugin, "VOLARY_REPLICAS=2-3")
	e.Docker("plugin", "enable", plugin)

	e.Docker("volume", "create", "-d", dockertest.Driver, "kept")
	e.Box("echo first >/v/f", "-v", "kept:/v")
	want(t, "in another container", e.Box("cat /v/f", "-v", "kept:/v"), "first")

	// What a container has stays when the daemon in the plugin is killed.
	id := e.Docker("run", "-d", "--network", "none", "-v", "kept:/v", dockertest.Image, "sh", "-c", "while :; do cat /v/f || exit 1; sleep 0.01; done")
	pid := strings.Fields(h.Sh("pgrep -f 'volary .*daemon'"))
	h.Do("kill", "-9", pid[0])
	e.UntilDocker("there is another daemon", func(out string) bool { return strings.Contains(out, "kept") }, "volume", "ls", "-q", "-f", "driver="+plugin)
	want(t, "the container runs", e.Docker("inspect", "-f", "{{.State.Running}}", id), "true")
	want(t, "writes go on", e.Docker("exec", id, "sh", "-c", "echo second >>/v/f; cat /v/f"), "first\nsecond")
	e.Docker("rm", "-f", id)
	want(t, "its settings", h.Sh("tr '\\0' '\\n' </proc/"+strings.Fields(h.Sh("pgrep -f 'volary .*daemon'"))[0]+"/environ | grep REPLICAS"), "VOLARY_REPLICAS=2-3\n")
	h.Sh("ln -s $PWD/images/plugins/*/propagated-mount outside") // a name that is short enough for a socket's
	want(t, "from outside of the plugin", h.Do("volary", "--home", "outside", "cat", "kept/f"), "first\nsecond\n")

	e.Refuses("in use", "plugin", "disable", plugin) // a volume is enough
	again := func() {
		e.Docker("plugin", "disable", "-f", plugin)
		e.Docker("plugin", "enable", plugin)
		want(t, "volumes afterwards", e.Docker("volume", "ls", "-q"), "kept")
	}
	again()
	want(t, "content", e.Box("cat /v/f", "-v", "kept:/v"), "first\nsecond")

	// Under a container: what it wrote is kept, and there for others once it has ended.
	id = e.Docker("run", "-d", "--network", "none", "-v", "kept:/v", dockertest.Image, "sh", "-c", "echo third >>/v/f; sleep 1000")
	e.UntilDocker("it has written", func(out string) bool { return strings.Contains(out, "third") }, "exec", id, "cat", "/v/f")
	again()
	e.Refuses("its changes are kept", "run", "--rm", "--network", "none", "-v", "kept:/v", dockertest.Image, "true")
	e.Docker("rm", "-f", id)
	want(t, "content", e.Box("cat /v/f", "-v", "kept:/v"), "first\nsecond\nthird")
	e.Docker("volume", "rm", "kept")
	e.Docker("plugin", "disable", plugin)
	e.Docker("plugin", "rm", plugin)
	if left := strings.TrimSpace(h.Sh("grep -c propagated-mount/ /proc/self/mounts || true")); left != "0" {
		t.Errorf("%s mounts are left:\n%s", left, h.Sh("grep propagated-mount/ /proc/self/mounts"))
	}
}
