//go:build real

package docker_test

import (
	"strings"
	"testing"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/volume/docker/dockertest"
)

// onSmallDisk is a host whose state is on a disk of its own, with project quotas where the kernel has them, of which a
// file, state/ballast, takes more than a half. What the engine has is elsewhere.
func onSmallDisk(t *testing.T) (e *dockertest.Engine, quotas bool) {
	t.Helper()
	h := nettest.New(t, program).Host("small")
	quotas = strings.Contains(h.Sh(`mkdir state; truncate -s 128M disk.img
if mkfs.ext4 -q -m 0 -O quota,project -E quotatype=prjquota disk.img && mount -o loop,prjquota disk.img state 2>/dev/null; then
	echo quotas
else
	mkfs.ext4 -q -F -m 0 disk.img; mount -o loop disk.img state
fi`), "quotas")
	h.Volary("init", "--docker", dockertest.Socket)
	h.Sh(`sed -i 's/^reserve.*/reserve = "8MiB"/' state/config.toml; fallocate -l 68M state/ballast`)
	e = dockertest.Start(t, h)
	h.Start()
	return e, quotas
}

// begin has a container have a volume at /v until it is removed.
func begin(e *dockertest.Engine, container, volume string) {
	e.Docker("run", "-d", "--name", container, "--network", "none", "-v", volume+":/v", dockertest.Image, "sleep", "100000")
}

// fill has a container write what cannot be made smaller until there is no room, and returns what it has written.
func fill(e *dockertest.Engine, container, file string) (sum string) {
	e.Refuses("No space left on device", "exec", container, "dd", "if=/dev/urandom", "of="+file, "bs=64k")
	return e.Docker("exec", container, "sha256sum", file)
}

func TestAFullDiskIsToldToContainersAndTakesNothing(t *testing.T) {
	t.Parallel()
	e, _ := onSmallDisk(t)
	create(e, "data")
	e.Box("echo committed >/v/first", "-v", "data:/v")
	begin(e, "filler", "data")
	sum := fill(e, "filler", "/v/large")
	want(t, "the container reads", e.Docker("exec", "filler", "cat", "/v/first"), "committed")
	want(t, "another one reads", e.Box("cat /v/first", "-v", "data:/v:ro"), "committed")
	want(t, "listed", e.Docker("volume", "ls", "-q", "-f", "driver=volary"), "data")
	wantHas(t, "status", e.Docker("volume", "inspect", "-f", "{{.Status}}", "data"), "dirty:true", "users:[docker:")

	// The commit at the end does not fit either. The container goes all the same, and the volume stays as it is.
	e.Docker("rm", "-f", "filler")
	failed := func(sequence string) {
		e.UntilDocker("it is told", func(out string) bool {
			return strings.Contains(out, "no space left") && strings.Contains(out, "dirty:true")
		}, "volume", "inspect", "-f", "{{.Status}}", "data")
		want(t, "sequence", e.Docker("volume", "inspect", "-f", "{{.Status.sequence}}", "data"), sequence)
	}
	failed("2")
	wantHas(t, "what failed", e.Volary("volume", "inspect", "data"), "unmount", "no space left")
	want(t, "the last commit", e.Volary("cat", "data/first"), "committed")
	e.Refuses("what is not committed stays in the volume", "volume", "rm", "data")
	e.Stop()
	e.Start()
	want(t, "listed by another daemon", e.Docker("volume", "ls", "-q", "-f", "driver=volary"), "data")
	begin(e, "filler", "data")
	want(t, "what was not committed", e.Docker("exec", "filler", "sha256sum", "/v/large"), sum)

	// Room is made in the container, and then beside it.
	e.Docker("exec", "filler", "truncate", "-s", "1M", "/v/large")
	e.Volary("volume", "commit", "data")
	want(t, "what is committed", e.Volary("cat", "data/first"), "committed")
	sum = fill(e, "filler", "/v/large")
	e.Docker("rm", "-f", "filler")
	failed("3")
	e.Do("rm", "state/ballast")
	e.UntilDocker("it is committed by itself", func(out string) bool { return out == "4 <no value>" },
		"volume", "inspect", "-f", "{{.Status.sequence}} {{.Status.failure}}", "data")
	want(t, "all of it", e.Box("sha256sum /v/large", "-v", "data:/v"), sum)
	e.Docker("volume", "rm", "data")
}

// TestAVolumeTakesNoMoreThanItsSize needs project quotas for what is on the disk; without them that is only watched.
func TestAVolumeTakesNoMoreThanItsSize(t *testing.T) {
	t.Parallel()
	e, quotas := onSmallDisk(t)
	for _, c := range []struct {
		overlay  string
		says     string
		enforced bool
	}{{"tmpfs", "No space left on device", true}, {"disk", "exceeded", quotas}} {
		create(e, c.overlay, "size=4MiB", "overlay="+c.overlay)
		begin(e, "in-"+c.overlay, c.overlay)
		write := []string{"exec", "in-" + c.overlay, "dd", "if=/dev/urandom", "of=/v/large", "bs=64k", "count=128"}
		if c.enforced {
			e.Refuses(c.says, write...)
		} else {
			e.Docker(write...)
		}
		sum := e.Docker("exec", "in-"+c.overlay, "sha256sum", "/v/large")
		e.Volary("volume", "commit", c.overlay)
		e.Docker("rm", "-f", "in-"+c.overlay)
		want(t, "what is committed", e.Box("sha256sum /v/large", "-v", c.overlay+":/v:ro"), sum)
	}
}
