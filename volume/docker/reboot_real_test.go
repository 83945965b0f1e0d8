//go:build real

package docker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/volume/docker/dockertest"
)

func TestAfterARebootContainersHaveTheirVolumesAgain(t *testing.T) {
	all := engines(t, "alpha", "beta")
	a, b := all[0], all[1]
	run := func(name, restart string, options ...string) {
		create(a, name, options...)
		a.Docker("run", "-d", "--name", name, "--restart", restart, "--network", "none", "-v", name+":/v", dockertest.Image, "sh", "-c",
			"cat /v/log 2>/dev/null; echo started >>/v/log; sleep 100000")
		a.UntilDocker("it has written", func(out string) bool { return out == "started" }, "exec", name, "cat", "/v/log")
	}
	run("goes-on", "always")
	run("ended", "no")
	run("manual", "no", "commit=manual")
	run("in-memory", "always", "overlay=tmpfs")
	create(a, "by-hand")
	a.Sh("echo written >$(volary volume mount by-hand)/log")
	users := func(name string) string {
		return a.Docker("volume", "inspect", "-f", "{{range .Status.users}}{{.}} {{end}}", name)
	}
	before := users("goes-on")

	// Without that it would be found when the other host looks for it, which takes that for connected until it notices.
	peer := fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", b.IP, nettest.Port, strings.TrimSpace(b.Do("cat", b.Home+"/peer-id")))
	a.Sh(`sed -i 's|^peers *=.*|peers = ["` + peer + `"]|' state/config.toml; grep ^peers state/config.toml`)
	a.Reboot()
	a.Start()
	want(t, "what a daemon lists", fmt.Sprint(strings.Fields(a.Volary("volume", "ls", "-q"))), "[by-hand ended goes-on in-memory manual]")
	a.UntilVolary("what was written is committed where no container starts again", func(out string) bool { return out == "started\n" }, "cat", "ended/log")
	a.Begin()
	want(t, "volumes right afterwards", fmt.Sprint(len(strings.Fields(a.Docker("volume", "ls", "-q", "-f", "driver=volary")))), "5")
	a.UntilDocker("what was not committed is there", func(out string) bool { return out == "started\nstarted" }, "exec", "goes-on", "cat", "/v/log")
	a.UntilDocker("what was in memory is not", func(out string) bool { return out == "started" }, "exec", "in-memory", "cat", "/v/log")
	if now := users("goes-on"); len(strings.Fields(now)) != 1 || !strings.Contains(now, "docker:") {
		t.Errorf("it has the users %s, and had %s", now, before)
	}
	for _, name := range []string{"ended", "manual"} {
		want(t, "users of "+name, users(name), "")
	}
	want(t, "what was mounted by hand", users("by-hand")+a.Sh("cat $(volary volume mount by-hand)/log"), "cliwritten\n")
	a.Volary("volume", "umount", "by-hand")
	want(t, "mounts", strings.TrimSpace(a.Sh("grep -c '"+a.Home+"/volumes/overlays/.*/merged overlay ' /proc/self/mounts")), "2")

	a.Docker("start", "ended", "manual")
	for _, name := range []string{"ended", "manual"} {
		a.UntilDocker("it has what it wrote", func(out string) bool { return out == "started\nstarted" }, "exec", name, "cat", "/v/log")
	}
	// The other host may take the connection of before for one that is there, for as long as a minute; until it hears of
	// this one again, it goes by what it heard, and is told nothing.
	a.Until(soon, func(out string) bool { return strings.Contains(out, "connected") }, "peers")
	b.UntilDocker("it hears who writes", func(out string) bool { return strings.HasPrefix(out, "alpha (") }, "volume", "inspect", "-f", "{{.Status.lease}}", "goes-on")
	b.Refuses("alpha", "run", "--rm", "-v", "goes-on:/v", dockertest.Image, "true")
	for _, name := range []string{"goes-on", "ended", "by-hand"} {
		if name != "by-hand" {
			a.Docker("rm", "-f", name)
		}
		written := func(out string) bool { return out == "started\nstarted" || out == "written" }
		b.Until(soon, func(out string) bool { return written(strings.TrimSpace(out)) }, "cat", name+"/log")
		b.UntilDocker("another host has all that was written", written, "run", "--rm", "--network", "none", "-v", name+":/v", dockertest.Image, "cat", "/v/log")
	}
}
