//go:build real

package docker_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/volume/docker/dockertest"
)

// machine is a host on which systemd runs, with what make install puts there and the engine's own units. Its root is a
// copy of this machine's.
type machine struct {
	*nettest.Host
	t      *testing.T
	cgroup string
	first  string // the number of systemd on the host
}

const soon = 90 * time.Second

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, cgroup: fmt.Sprintf("volary-test-systemd-%d", os.Getpid())}
	t.Cleanup(func() { // when all its processes have ended
		_ = exec.Command("sh", "-c", "find /sys/fs/cgroup -depth -type d -path '*/"+m.cgroup+"*' -exec rmdir {} +").Run()
	})
	m.Host = nettest.New(t, program).Host("machine")
	m.Do("ip", "link", "set", "lo", "up")
	m.Sh("mkdir root lib changes && mount -t tmpfs tmpfs changes && mkdir -p changes/work changes/upper/etc/docker changes/upper/var/log/journal")
	m.write("changes/upper/etc/docker/daemon.json", `{"iptables": false, "ip6tables": false, "bridge": "none", "ip-forward": false}`)
	m.write("changes/upper/etc/fstab", "")
	m.write("changes/upper/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	// Nothing of what this machine would start is.
	m.Sh("mkdir -p changes/upper/etc/systemd/system && setfattr -n trusted.overlay.opaque -v y changes/upper/etc/systemd/system")
	m.write("changes/upper/etc/systemd/system/test.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=docker.service\n")
	m.install()
	m.Sh("mkdir -p changes/upper/etc/systemd/system/docker.service.wants && " +
		"ln -s /usr/local/lib/systemd/system/volary.service changes/upper/etc/systemd/system/docker.service.wants/")
	m.boot()
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.Root(), m.Dir, name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// install is make install, with the program that was built.
func (m *machine) install() {
	m.t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		m.t.Fatal(err)
	}
	m.Do("env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "MFLAGS", "make", "-C", top, "-o", "build", "install",
		"DESTDIR="+filepath.Join(m.Dir, "changes/upper"), "PREFIX=/usr/local")
}

// boot begins systemd, and waits until the engine answers.
func (m *machine) boot() {
	m.t.Helper()
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	m.write("boot_id", fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
	script, err := filepath.Abs("testdata/boot.sh")
	if err != nil {
		m.t.Fatal(err)
	}
	m.Run("systemd", "sh", script, m.Dir, m.cgroup)
	m.until("systemd runs", func() bool {
		out, err := m.Try(m.t.Context(), "pgrep", "-o", "-x", "systemd") // what it has just forked is called so, too
		m.first = strings.TrimSpace(out)
		return err == nil && m.first != ""
	})
	m.until("the engine runs", func() bool { return m.is("docker.service", "ActiveState") == "active" })
}

func (m *machine) until(what string, holds func() bool) {
	m.t.Helper()
	for over := time.Now().Add(soon); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(over) {
			out, _ := m.try("journalctl", "--no-pager", "-n", "100")
			m.t.Fatalf("not within %s: %s\n%s", soon, what, out)
		}
	}
}

func (m *machine) try(command ...string) (string, error) {
	out, err := m.Try(m.t.Context(), append([]string{"env", "-u", "VOLARY_HOME", "-u", "DOCKER_HOST", "nsenter", "-t", m.first, "-m", "-p", "-C", "-i", "-r", "-w"}, command...)...)
	return strings.TrimSpace(out), err
}

// do runs a command in the machine that must go well.
func (m *machine) do(command ...string) string {
	m.t.Helper()
	out, err := m.try(command...)
	if err != nil {
		log, _ := m.try("journalctl", "--no-pager", "-n", "100")
		m.t.Fatalf("%v\n%s", err, log)
	}
	return out
}

func (m *machine) is(unit, property string) string {
	out, _ := m.try("systemctl", "show", "--value", "-p", property, unit)
	return out
}

// at is when something became of a unit, in microseconds of this machine.
func (m *machine) at(unit, property string) int {
	m.t.Helper()
	n, err := strconv.Atoi(m.is(unit, property+"TimestampMonotonic"))
	if err != nil || n == 0 {
		m.t.Errorf("%s of %s: %d, %v", property, unit, n, err)
	}
	return n
}

func TestSystemdRunsWhatIsInstalled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if holder, daemon, engine := m.at("volary-holder", "ActiveEnter"), m.at("volary", "ActiveEnter"), m.at("docker", "ExecMainStart"); holder > daemon || daemon > engine {
		t.Errorf("ready: holder at %d, daemon at %d; the engine is started at %d", holder, daemon, engine)
	}
	holder := m.is("volary-holder", "MainPID")
	m.do("sh", "-c", `cd /tmp && mkdir -p image/bin && cp "$(command -v busybox)" image/bin/busybox && for n in sh sleep cat true; do ln -s busybox image/bin/$n; done &&
		tar -C image -c . | docker import - `+dockertest.Image)
	m.do("docker", "volume", "create", "-d", dockertest.Driver, "data")
	m.do("docker", "run", "-d", "--name", "writer", "--restart", "always", "--stop-timeout", "1", "--network", "none", "-v", "data:/v", dockertest.Image, "sh", "-c",
		"echo begins >>/v/begun; while :; do echo x >>/v/log && cat /v/log >/dev/null || exit 1; sleep 0.05; done")
	lines := func() int {
		out, err := m.try("docker", "exec", "writer", "cat", "/v/log")
		if err != nil {
			return -1
		}
		return strings.Count(out, "x")
	}
	begun := func() string { return m.do("docker", "exec", "writer", "cat", "/v/begun") }
	writes := func(what string) {
		t.Helper()
		before := -1
		m.until("it writes "+what, func() bool {
			now := lines()
			if before < 0 {
				before = now
			}
			return before >= 0 && now > before
		})
	}
	writes("at first")
	volume := func() string { return m.do("volary", "--home", "/var/lib/volary", "volume", "inspect", "data") }
	daemon := func(what string, change func()) {
		t.Helper()
		was := m.is("volary", "MainPID")
		change()
		m.until("there is another daemon after "+what, func() bool {
			now := m.is("volary", "MainPID")
			return now != was && now != "0" && m.is("volary", "SubState") == "running"
		})
		writes("after " + what)
		want(t, "the container after "+what, begun(), "begins")
		want(t, "the holder after "+what, m.is("volary-holder", "MainPID"), holder)
		wantHas(t, "users after "+what, volume(), "docker:")
	}
	daemon("a restart", func() { m.do("systemctl", "restart", "volary") })
	daemon("its death", func() { m.do("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "volary") })
	installed := func() string { return m.do("stat", "-c", "%i", "/usr/local/bin/volary") }
	was := installed()
	daemon("an upgrade", func() {
		m.do("sh", "-c", "cp /usr/local/bin/volary /usr/local/bin/new && echo >>/usr/local/bin/new && mv /usr/local/bin/new /usr/local/bin/volary")
		m.do("systemctl", "restart", "volary")
	})
	if now := m.do("stat", "-L", "-c", "%i", "/proc/"+m.is("volary", "MainPID")+"/exe"); now == was || now != installed() {
		t.Errorf("after an upgrade the daemon is the program %s, which was %s and is %s", now, was, installed())
	}
	if out, err := m.try("systemctl", "stop", "volary-holder"); err == nil {
		t.Errorf("the holder is stopped by hand: %s", out)
	}
	writes("after that")

	// When the machine goes down the engine ends first, and what containers wrote is committed.
	wrote := lines()
	_, _ = m.try("systemctl", "--no-block", "poweroff")
	m.until("the machine is down", func() bool {
		out, _ := m.Try(t.Context(), "pgrep", "-x", "systemd")
		return strings.TrimSpace(out) == ""
	})
	log := m.Do("journalctl", "--no-pager", "-o", "cat", "-D", filepath.Join(m.Dir, "changes/upper/var/log/journal"), "-u", "docker", "-u", "volary", "-u", "volary-holder")
	at := -1
	for _, unit := range []string{"docker.service", "volary.service", "volary-holder.service"} {
		i := strings.LastIndex(log, "Stopped "+unit)
		if i <= at {
			t.Errorf("%s did not end after what needs it:\n%s", unit, log)
		}
		at = i
	}
	m.boot()
	writes("after a reboot")
	want(t, "the container after a reboot", begun(), "begins\nbegins")
	if now := lines(); now < wrote {
		t.Errorf("%d lines after a reboot, of %d", now, wrote)
	}
	if states := strings.Count(m.do("volary", "--home", "/var/lib/volary", "volume", "log", "data"), "\n"); states < 1 {
		t.Errorf("nothing was committed when the machine went down")
	}
	m.do("docker", "rm", "-f", "writer")
	m.do("docker", "volume", "rm", "data")
}
