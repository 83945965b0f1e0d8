//go:build real

package docker_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

func create(e *dockertest.Engine, name string, options ...string) {
	args := []string{"volume", "create", "-d", dockertest.Driver}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	e.Docker(append(args, name)...)
}

func TestWhatAnEngineDoesToVolumes(t *testing.T) {
	e := alone(t)
	for _, part := range []struct {
		name string
		does func(*testing.T, *dockertest.Engine)
	}{
		{"a volume is shared by containers and has history", shared},
		{"what the image has is copied into an empty volume", copyUp},
		{"an anonymous volume ends with its container", anonymous},
		{"a container has the volumes of another", volumesFrom},
		{"several containers write at once", together},
		{"what is not a regular file stays what it is", special},
		{"containers talk through a volume", talk},
		{"options come with a container's mount", mountOptions},
		{"docker cp reads and writes", copies},
		{"docker cp takes no volume away from a container that runs", copiesOfRunning},
		{"a volume begins as a snapshot", from},
		{"what cannot be is refused in words", refused},
		{"what is known is in inspect", inspected},
		{"filters of a list find volumes", filtered},
		{"a volume that is in use is not removed", inUse},
		{"volumes outlive their engine, killed or not", engineEnds},
		{"containers go on when the daemon ends, killed or not", daemonEnds},
		{"containers go on when the daemon becomes another program", upgrade},
		{"containers go on without their engine", liveRestore},
		{"many volumes are listed, and pruned by us alone", manyVolumes},
	} {
		e.Part(part.name, part.does)
	}
}

func shared(t *testing.T, e *dockertest.Engine) {
	create(e, "shared")
	e.Box("echo first >/v/f", "-v", "shared:/v")
	want(t, "another container", e.Box("cat /v/f", "-v", "shared:/v:ro"), "first")
	e.Refuses("Read-only file system", "run", "--rm", "-v", "shared:/v:ro", dockertest.Image, "touch", "/v/g")
	e.Box("echo second >/v/f", "-v", "shared:/v")
	want(t, "states", fmt.Sprint(strings.Count(e.Volary("volume", "log", "shared"), "\n")+1), "3")
	want(t, "state before", e.Volary("cat", "shared@~1/f"), "first")
	want(t, "driver", e.Docker("volume", "inspect", "-f", "{{.Driver}} {{.Scope}}", "shared"), "volary local")
	e.Docker("volume", "rm", "shared")
	want(t, "volumes", e.Docker("volume", "ls", "-q", "-f", "name=shared"), "")
	e.Volary("volume", "undelete", "shared")
	want(t, "brought back", e.Box("cat /v/f", "-v", "shared:/v"), "second")
}

func copyUp(t *testing.T, e *dockertest.Engine) {
	create(e, "up")
	want(t, "copied up", e.Box("cat /data/from-image; stat -c %u:%g /data/from-image", "-v", "up:/data"), "image\n7:8")
	create(e, "none")
	want(t, "nocopy", e.Box("ls -A /data", "--mount", "type=volume,src=none,dst=/data,volume-nocopy"), "")
	e.Sh("mkdir -p set && echo mine >set/own")
	cid := e.Volary("snapshot", "set")
	create(e, "given", "from="+cid)
	want(t, "from", e.Box("ls -A /data", "-v", "given:/data"), "own")
}

func anonymous(t *testing.T, e *dockertest.Engine) {
	before := e.Docker("volume", "ls", "-q")
	name := e.Box("sleep 0; mount | grep ' /data '; echo more >/data/x", "--mount", "type=volume,dst=/data,volume-driver="+dockertest.Driver)
	wantHas(t, "mounted by the driver", name, "overlay")
	wantHas(t, "mounted by the driver", e.Box("mount | grep ' /data '", "-v", "/data", "--volume-driver", dockertest.Driver), "overlay")
	want(t, "volumes afterwards", e.Docker("volume", "ls", "-q"), before)
}

func volumesFrom(t *testing.T, e *dockertest.Engine) {
	create(e, "lent")
	e.Docker("create", "--name", "lender", "-v", "lent:/lent", dockertest.Image, "sh")
	e.Box("echo of-the-other >/lent/f", "--volumes-from", "lender")
	want(t, "lent", e.Box("cat /lent/f", "--volumes-from", "lender:ro"), "of-the-other")
	e.Docker("rm", "lender")
}

func together(t *testing.T, e *dockertest.Engine) {
	create(e, "many")
	var ids []string
	for i := range 4 {
		ids = append(ids, e.Docker("run", "-d", "--network", "none", "-v", "many:/v", dockertest.Image, "sh", "-c",
			fmt.Sprintf("for k in $(seq 100); do echo $k >/v/%d-$k; done", i)))
	}
	for _, id := range ids {
		want(t, "exit code", e.Docker("wait", id), "0")
	}
	e.Docker(append([]string{"rm"}, ids...)...)
	want(t, "files", e.Box("ls /v | wc -l", "-v", "many:/v:ro"), "400")
}

func special(t *testing.T, e *dockertest.Engine) {
	create(e, "special", "uid=5", "gid=6", "mode=750")
	e.Box("cd /v && mkfifo pipe && ln -s pipe link; echo x >f; ln f hard; chown 3:4 f; chmod 4711 f", "-v", "special:/v")
	got := e.Box("cd /v && stat -c '%n %F %a %u:%g' . pipe link f && test f -ef hard && echo same && ls", "-v", "special:/v")
	wantHas(t, "files", got, ". directory 750 5:6", "pipe fifo", "link symbolic link", "f regular file 4711 3:4", "same")
}

// talk has what a container sends to a fifo, and to a socket, received by another one.
func talk(t *testing.T, e *dockertest.Engine) {
	create(e, "talk")
	e.Docker("run", "-d", "--name", "listener", "--network", "none", "-v", "talk:/v", dockertest.Image, "sh", "-c",
		"mkfifo /v/pipe; ln -s /v/socket /dev/log; syslogd -O /v/heard; cat /v/pipe >/v/piped; sleep 100000")
	e.UntilDocker("it listens", func(string) bool { return true }, "exec", "listener", "test", "-p", "/v/pipe", "-a", "-S", "/v/socket")
	e.Box("echo through-a-fifo >/v/pipe; ln -s /v/socket /dev/log; logger through-a-socket", "-v", "talk:/v")
	e.UntilDocker("it hears both", func(out string) bool {
		return strings.Contains(out, "through-a-fifo") && strings.Contains(out, "through-a-socket")
	}, "exec", "listener", "cat", "/v/piped", "/v/heard")
	e.Docker("rm", "-f", "listener")
	want(t, "in the next mount", e.Box("test -p /v/pipe && test -S /v/socket && cat /v/piped", "-v", "talk:/v"), "through-a-fifo")
}

func mountOptions(t *testing.T, e *dockertest.Engine) {
	const mount = "type=volume,src=opted,dst=/v,volume-driver=" + dockertest.Driver
	e.Box("echo x >/v/f", "--mount", mount+",volume-opt=commit=manual,volume-opt=mode=1777")
	want(t, "options", e.Docker("volume", "inspect", "-f", "{{.Status.options}} {{.Status.dirty}}", "opted"), "map[commit:manual mode:1777] true")
	want(t, "mode", e.Box("stat -c %a /v; cat /v/f", "--mount", mount), "1777\nx")
	e.Refuses("the options are", "run", "--rm", "--network", "none", "--mount", "type=volume,src=bad,dst=/v,volume-driver=volary,volume-opt=frm=x", dockertest.Image, "true")
}

func copies(t *testing.T, e *dockertest.Engine) {
	create(e, "cp")
	e.Docker("create", "--name", "cp", "-v", "cp:/v", dockertest.Image, "sh")
	e.Sh("echo in >in")
	e.Docker("cp", "in", "cp:/v/in")
	e.Docker("cp", "cp:/v/in", "out")
	want(t, "copied", e.Sh("cat out"), "in\n")
	e.Docker("rm", "cp")
	want(t, "in the volume", e.Volary("cat", "cp/in"), "in")
}

func copiesOfRunning(t *testing.T, e *dockertest.Engine) {
	create(e, "cpr")
	e.Docker("run", "-d", "--name", "cpr", "--network", "none", "-v", "cpr:/v", dockertest.Image, "sleep", "1000")
	e.Sh("echo in >in")
	for range 2 {
		e.Docker("cp", "in", "cpr:/v/in")
		e.Docker("cp", "cpr:/v/in", "out")
	}
	e.Docker("exec", "cpr", "sh", "-c", "echo later >/v/later")
	if users := e.Docker("volume", "inspect", "-f", "{{.Status.users}}", "cpr"); !strings.Contains(users, "docker:") {
		t.Errorf("while the container runs, users are %s", users)
	}
	e.Docker("rm", "-f", "cpr")
	want(t, "in the volume", e.Volary("cat", "cpr/in")+" "+e.Volary("cat", "cpr/later"), "in later")
	create(e, "cpr2")
	e.Docker("run", "-d", "--name", "cpr2", "--network", "none", "-v", "cpr2:/v", dockertest.Image, "sleep", "1000")
	e.Stop()
	e.Start()
	e.Docker("cp", "in", "cpr2:/v/in")
	if users := e.Docker("volume", "inspect", "-f", "{{.Status.users}}", "cpr2"); !strings.Contains(users, "docker:") {
		t.Errorf("after another daemon began, users are %s", users)
	}
	e.Docker("rm", "-f", "cpr2")
	want(t, "users of the other at the end", e.Docker("volume", "inspect", "-f", "{{.Status.users}}", "cpr2"), "<no value>")
	want(t, "users at the end", e.Docker("volume", "inspect", "-f", "{{.Status.users}}", "cpr"), "<no value>")
}

func from(t *testing.T, e *dockertest.Engine) {
	e.Sh("mkdir -p data && seq 1000 >data/numbers")
	cid := e.Volary("snapshot", "--tag", "dataset", "data")
	for i, ref := range []string{cid, "dataset"} {
		create(e, fmt.Sprint("from", i), "from="+ref)
		want(t, ref, e.Box("wc -l </v/numbers", "-v", fmt.Sprintf("from%d:/v", i)), "1000")
	}
	create(e, "ro", "from="+cid, "readonly=true")
	e.Refuses("Read-only file system", "run", "--rm", "-v", "ro:/v", dockertest.Image, "touch", "/v/x")
	e.Box("echo changed >/v/numbers", "-v", "from0:/v")
	create(e, "older", "from=from0@~1")
	want(t, "an older state", e.Box("wc -l </v/numbers", "-v", "older:/v"), "1000")
}

func refused(t *testing.T, e *dockertest.Engine) {
	e.Refuses("the options are", "volume", "create", "-d", dockertest.Driver, "-o", "frm=x", "bad")
	e.Refuses("size is how much", "volume", "create", "-d", dockertest.Driver, "-o", "size=lots", "bad")
	e.Refuses("volume set VOLUME follow=true", "volume", "create", "-d", dockertest.Driver, "-o", "from=nothing", "-o", "follow=true", "bad")
	e.Refuses("neither a CID, a volume nor a tag", "volume", "create", "-d", dockertest.Driver, "-o", "from=nothing", "bad")
	want(t, "volumes that were refused", e.Docker("volume", "ls", "-q", "-f", "name=bad"), "")
}

func inspected(t *testing.T, e *dockertest.Engine) {
	create(e, "seen", "commit=manual")
	id := e.Docker("run", "-d", "--network", "none", "-v", "seen:/v", dockertest.Image, "sh", "-c", "echo x >/v/f; sleep 1000")
	defer e.Docker("rm", "-f", id)
	e.UntilDocker("it is written", func(out string) bool { return strings.Contains(out, "dirty:true") },
		"volume", "inspect", "-f", "{{.Status}}", "seen")
	wantHas(t, "status", e.Docker("volume", "inspect", "-f", "{{.Status}}", "seen"), "head:bafy", "users:[docker:", "commit:manual")
}

func filtered(t *testing.T, e *dockertest.Engine) {
	e.Docker("volume", "create", "-d", dockertest.Driver, "--label", "kind=idle", "listed-idle")
	e.Docker("volume", "create", "-d", dockertest.Driver, "--label", "kind=used", "--label", "more", "listed-used")
	create(e, "listed-plain")
	e.Volary("volume", "create", "listed-ours")
	e.Docker("volume", "create", "listed-local")
	e.Docker("create", "--name", "lister", "-v", "listed-used:/v", dockertest.Image, "sh")
	listed := func(filters ...string) string {
		args := []string{"volume", "ls", "-q"}
		for _, f := range filters {
			args = append(args, "-f", f)
		}
		return strings.ReplaceAll(strings.Join(strings.Fields(e.Docker(args...)), " "), "listed-", "")
	}
	for _, c := range []struct{ filter, names string }{
		{"label=kind", "idle used"},
		{"label=kind=idle", "idle"},
		{"label=kind=other", ""},
		{"label=more", "used"},
		{"driver=" + dockertest.Driver, "idle ours plain used"},
		{"driver=local", "local"},
		{"dangling=true", "idle local ours plain"},
		{"dangling=false", "used"},
	} {
		want(t, c.filter, listed("name=listed-", c.filter), c.names)
	}
	want(t, "name", listed("name=listed-"), "idle local ours plain used")
	want(t, "part of a name", listed("name=sted-o"), "ours")
	want(t, "several", listed("label=kind", "dangling=true", "driver="+dockertest.Driver), "idle")
	want(t, "labels", e.Docker("volume", "inspect", "-f", "{{.Labels.kind}}", "listed-used"), "used")
	e.Docker("rm", "lister")
}

func inUse(t *testing.T, e *dockertest.Engine) {
	create(e, "used")
	e.Docker("create", "--name", "user", "-v", "used:/v", dockertest.Image, "sh")
	e.Refuses("volume is in use", "volume", "rm", "used")
	e.Docker("rm", "user")
	e.Volary("volume", "mount", "used")
	e.Refuses("mounted", "volume", "rm", "used")
	e.Volary("volume", "umount", "used")
	e.Docker("volume", "rm", "used")
}

// engineEnds kills the engine under a container, which ends, and starts another one, under which it is started again.
func engineEnds(t *testing.T, e *dockertest.Engine) {
	create(e, "kept")
	for i, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		name := fmt.Sprint("keeper", i)
		e.Docker("run", "-d", "--name", name, "--restart", "always", "--network", "none", "-v", "kept:/v", dockertest.Image, "sh", "-c",
			"echo started >>/v/log; sleep 1000")
		e.UntilDocker("it has written", func(out string) bool { return strings.Count(out, "started") == 2*i+1 }, "exec", name, "cat", "/v/log")
		e.Docker("run", "-d", "--name", name+"-later", "--network", "none", "-v", "kept:/v", dockertest.Image, "sleep", "1000")
		e.End(s)
		e.Begin()
		want(t, "volumes right afterwards", e.Docker("volume", "ls", "-q", "-f", "name=kept"), "kept")
		e.UntilDocker("it runs again", func(out string) bool { return strings.Count(out, "started") == 2*i+2 }, "exec", name, "cat", "/v/log")
		e.Kill()
		e.Start()
		e.Docker("start", name+"-later")
		e.Docker("cp", name+":/v/log", "log")
		e.Docker("rm", "-f", name+"-later")
		wantHas(t, "users while one container runs", e.Docker("volume", "inspect", "-f", "{{.Status.users}}", "kept"), "docker:")
		e.Docker("rm", "-f", name)
		e.UntilVolary("it is unmounted", func(out string) bool { return !strings.Contains(out, "docker:") }, "volume", "inspect", "kept")
	}
	want(t, "what was written", e.Volary("cat", "kept/log"), strings.TrimSpace(strings.Repeat("started\n", 4)))
}

func daemonEnds(t *testing.T, e *dockertest.Engine) {
	create(e, "going")
	e.Docker("run", "-d", "--name", "goer", "--network", "none", "-v", "going:/v", dockertest.Image, "sh", "-c",
		"i=0; while :; do i=$((i+1)); echo $i >>/v/log && cat /v/log >/dev/null || exit 1; sleep 0.01; done")
	for range 3 {
		e.Kill()
		e.Start()
		e.Stop()
		e.Start()
	}
	written := func() string { return e.Docker("exec", "goer", "wc", "-c", "/v/log") }
	before := written()
	e.UntilDocker("it writes on", func(out string) bool { return out != before }, "exec", "goer", "wc", "-c", "/v/log")
	want(t, "the container runs", e.Docker("inspect", "-f", "{{.State.Running}}", "goer"), "true")
	e.Docker("stop", "-t", "0", "goer")
	lines := strings.Fields(e.Docker("run", "--rm", "--network", "none", "-v", "going:/v", dockertest.Image, "cat", "/v/log"))
	for i, l := range lines {
		if l != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
	e.Docker("rm", "goer")
	e.UntilVolary("it is unmounted", func(out string) bool { return !strings.Contains(out, "docker:") }, "volume", "inspect", "going")
	want(t, "lines that are committed", fmt.Sprint(len(strings.Fields(e.Volary("cat", "going/log")))), fmt.Sprint(len(lines)))
}

// upgrade has another program be where the daemon's was, and the next daemon be that.
func upgrade(t *testing.T, e *dockertest.Engine) {
	create(e, "up-under")
	bin, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	e.Do("cp", bin, "mine")
	e.Use(filepath.Join(e.Dir, "mine"))
	e.Stop()
	e.Start()
	e.Docker("run", "-d", "--name", "upper", "--network", "none", "-v", "up-under:/v", dockertest.Image, "sh", "-c",
		"while :; do echo x >>/v/log && cat /v/log >/dev/null || exit 1; sleep 0.01; done")
	e.UntilDocker("it writes", func(out string) bool { return out != "" }, "exec", "upper", "cat", "/v/log")
	e.Sh("cp mine new && echo >>new && mv new mine")
	e.Stop()
	e.Start()
	before := e.Docker("exec", "upper", "cat", "/v/log")
	e.UntilDocker("it writes on", func(out string) bool { return len(out) > len(before) }, "exec", "upper", "cat", "/v/log")
	want(t, "the container runs", e.Docker("inspect", "-f", "{{.State.Running}}", "upper"), "true")
	e.Docker("rm", "-f", "upper")
	e.UntilVolary("it is committed", func(out string) bool { return len(out) > len(before) }, "cat", "up-under/log")
}

// liveRestore kills an engine that leaves its containers alone.
func liveRestore(t *testing.T, e *dockertest.Engine) {
	create(e, "live")
	e.End(syscall.SIGTERM)
	e.Begin("--live-restore")
	e.Docker("run", "-d", "--name", "liver", "--network", "none", "-v", "live:/v", dockertest.Image, "sh", "-c",
		"while :; do echo x >>/v/log || exit 1; sleep 0.01; done")
	e.End(syscall.SIGKILL)
	log := e.Home + "/volumes/overlays/*/merged/log"
	before := e.Sh("cat " + log + " | wc -l")
	e.Begin("--live-restore")
	want(t, "the container runs", e.Docker("inspect", "-f", "{{.State.Running}}", "liver"), "true")
	e.Sh("until [ $(cat " + log + " | wc -l) -gt " + strings.TrimSpace(before) + " ]; do sleep 0.01; done")
	e.Box("cat /v/log >/dev/null", "-v", "live:/v")
	e.Docker("rm", "-f", "liver")
	e.UntilVolary("it is unmounted", func(out string) bool { return !strings.Contains(out, "docker:") }, "volume", "inspect", "live")
}

func manyVolumes(t *testing.T, e *dockertest.Engine) {
	const many = 40
	e.Sh(fmt.Sprintf("seq %d | xargs -P 4 -I N docker -H unix:///run/docker/docker.sock volume create -d volary many-N", many))
	list := []string{"volume", "ls", "-q", "-f", "name=many-"}
	want(t, "volumes", fmt.Sprint(len(strings.Fields(e.Docker(list...)))), fmt.Sprint(many))
	e.Docker("volume", "prune", "-f")
	e.Docker("system", "prune", "-f", "--volumes")
	want(t, "volumes after the engine's prune", fmt.Sprint(len(strings.Fields(e.Docker(list...)))), fmt.Sprint(many))
	e.Docker("create", "--name", "keeper", "-v", "many-7:/v", dockertest.Image, "sh")
	e.Docker("start", "keeper")
	e.Volary("volume", "mount", "many-7")
	e.Volary("volume", "prune", "--force")
	want(t, "volumes after ours", e.Docker(list...), "many-7")
	e.Volary("volume", "umount", "many-7")
	e.Docker("rm", "-f", "keeper")
}
