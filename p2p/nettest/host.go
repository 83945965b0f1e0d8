package nettest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readyTime is how long a daemon may take to answer.
	readyTime = 30 * time.Second
	// killedTime is how long a daemon that was killed is waited for.
	killedTime = 5 * time.Second
	// commandTime is how long any command may take.
	commandTime = 2 * time.Minute
)

// Host is a host of a network. Its methods fail the test where something goes wrong, and are to be called from the
// test's own goroutine unless they say something else.
type Host struct {
	Name string
	IP   string
	Home string // its state directory
	Dir  string // for whatever it has of files

	t      testing.TB
	n      *Network
	number int
	init   *exec.Cmd
	hold   io.Closer  // the host is there until it is closed
	spaces []*os.File // its namespaces

	daemon *exec.Cmd // nil while none runs
	ended  chan struct{}
	bin    string
}

// Host makes a host, which is at the bridge and has no state.
func (n *Network) Host(name string) *Host {
	n.t.Helper()
	number := len(n.hosts) + 1
	h := &Host{Name: name, IP: n.address(number), Dir: filepath.Join(n.dir, name), t: n.t, n: n, number: number, bin: n.bin}
	h.Home = filepath.Join(h.Dir, "state")
	n.hosts = append(n.hosts, h)
	h.must(os.Mkdir(h.Dir, 0o755))
	h.must(h.begin())
	h.connect()
	return h
}

// connect makes the host's link.
func (h *Host) connect() {
	h.t.Helper()
	h.n.do("ip", "link", "add", h.link(), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.init.Process.Pid))
	h.n.do("ip", "link", "set", h.link(), "master", h.n.bridge(0), "up")
	h.Do("ip", "addr", "add", h.IP+"/24", "dev", "eth0")
	h.Do("ip", "link", "set", "eth0", "up")
}

// In has failures be those of a part of the test from now on.
func (h *Host) In(t testing.TB) { h.t = t }

// Use has a host run another program than the others.
func (h *Host) Use(bin string) { h.bin = bin }

// link is the end of the host's link that is at the bridge.
func (h *Host) link() string { return fmt.Sprintf("n%d-port%d", h.n.number, h.number) }

func (h *Host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("host %s: %v", h.Name, err)
	}
}

// kinds of namespaces, in the order in which they are entered.
var kinds = []struct {
	name string
	flag int
}{{"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS}}

// begin makes the namespaces, and the process that keeps them.
func (h *Host) begin() error {
	h.init = exec.Command("/proc/self/exe")
	h.init.Env = append(os.Environ(), hostName+"="+h.Name)
	h.init.Stderr = os.Stderr
	h.init.SysProcAttr = &syscall.SysProcAttr{}
	for _, k := range kinds {
		h.init.SysProcAttr.Cloneflags |= uintptr(k.flag)
	}
	hold, err := h.init.StdinPipe()
	if err != nil {
		return err
	}
	h.hold = hold
	out, err := h.init.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.init.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != ready {
		return fmt.Errorf("its first process says %q, %w", line, err)
	}
	for _, k := range kinds {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", h.init.Process.Pid, k.name))
		if err != nil {
			return err
		}
		h.spaces = append(h.spaces, f)
	}
	return nil
}

// end ends all that runs on the host, and says what its daemon said if the test failed.
func (h *Host) end() {
	h.endAll()
	log, _ := os.ReadFile(h.log())
	for _, mark := range []string{"panic:", "fatal error:", "goroutine 1 ["} {
		if bytes.Contains(log, []byte(mark)) {
			h.t.Errorf("daemon of %s: %s", h.Name, mark)
		}
	}
	if h.t.Failed() {
		h.t.Logf("daemon of %s:\n%s", h.Name, log[max(0, len(log)-8<<10):])
	}
}

// endAll ends all that runs on the host.
func (h *Host) endAll() {
	if h.hold != nil {
		_ = h.hold.Close()
		_ = h.init.Process.Kill()
		_ = h.init.Wait()
	}
	if h.daemon != nil {
		<-h.ended
	}
	for _, f := range h.spaces {
		_ = f.Close()
	}
	_ = exec.Command("ip", "link", "del", h.link()).Run() // its namespace goes only later on
}

// start starts a command on the host. It can be called from any goroutine.
func (h *Host) start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		// The thread stays where the host is, and ends with the goroutine. The first one of a program does not: as long as
		// this goroutine has it, another one is on another.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			started <- h.start(cmd)
			return
		}
		err := unix.Unshare(unix.CLONE_FS)
		for i := 0; err == nil && i < len(kinds); i++ {
			err = unix.Setns(int(h.spaces[i].Fd()), kinds[i].flag)
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// Try runs a command on the host, and returns what it prints and the error. It can be called from any goroutine.
func (h *Host) Try(ctx context.Context, command ...string) (string, error) {
	ctx, done := context.WithTimeout(ctx, commandTime)
	defer done()
	var out, errs bytes.Buffer
	cmd := h.command(ctx, command...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := h.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("host %s: %s: %w\n%s", h.Name, strings.Join(command, " "), err, errs.Bytes())
	}
	return out.String(), err
}

func (h *Host) command(ctx context.Context, command ...string) *exec.Cmd {
	if command[0] == "volary" {
		command = append([]string{h.bin}, command[1:]...)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = h.Dir, append(os.Environ(), "VOLARY_HOME="+h.Home, "TZ=UTC")
	return cmd
}

// Do runs a command that must go well, and returns what it prints.
func (h *Host) Do(command ...string) string {
	h.t.Helper()
	out, err := h.Try(h.t.Context(), command...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// Sh runs a line of sh that must go well.
func (h *Host) Sh(line string) string {
	h.t.Helper()
	return h.Do("sh", "-c", line)
}

// Volary runs the program, which must go well, and returns what it prints without white space around it.
func (h *Host) Volary(args ...string) string {
	h.t.Helper()
	return strings.TrimSpace(h.Do(append([]string{"volary"}, args...)...))
}

// Until runs the program until it goes well and prints what is wanted. Not in the given time, it fails the test.
func (h *Host) Until(limit time.Duration, wanted func(out string) bool, args ...string) string {
	h.t.Helper()
	ctx, done := context.WithTimeout(h.t.Context(), limit)
	defer done()
	for {
		out, err := h.Try(ctx, append([]string{"volary"}, args...)...)
		if err == nil && wanted(out) {
			return out
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("host %s: not within %s: volary %s: %v, %s", h.Name, limit, strings.Join(args, " "), err, out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (h *Host) log() string { return filepath.Join(h.Dir, "daemon.log") }

// Log is what the daemons of the host have said so far.
func (h *Host) Log() string {
	h.t.Helper()
	log, err := os.ReadFile(h.log())
	h.must(err)
	return string(log)
}

// Start starts the daemon, and returns when it answers.
func (h *Host) Start() {
	h.t.Helper()
	log, err := os.OpenFile(h.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	h.must(err)
	defer log.Close()
	cmd := h.command(context.Background(), "volary", "daemon")
	cmd.Stdout, cmd.Stderr = log, log
	h.must(h.start(cmd))
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	h.daemon, h.ended = cmd, ended
	h.Until(readyTime, func(out string) bool { return !strings.Contains(out, "(no daemon)") }, "status")
}

// Kill kills the daemon with SIGKILL.
func (h *Host) Kill() {
	h.t.Helper()
	h.must(h.daemon.Process.Kill())
	h.Killed()
}

// Killed returns when the daemon, which was killed, has ended. One that waits for its own answer, as in the midst of a mount,
// can end only when the next one has begun: it is not waited for longer.
func (h *Host) Killed() {
	select {
	case <-h.ended:
	case <-time.After(killedTime):
	}
	h.daemon = nil
}

// Stop has the daemon end in order.
func (h *Host) Stop() {
	h.t.Helper()
	h.must(h.daemon.Process.Signal(syscall.SIGTERM))
	select {
	case <-h.ended:
		h.daemon = nil
	case <-time.After(readyTime):
		h.t.Fatalf("host %s: its daemon does not end", h.Name)
	}
}

// Runs fails the test unless the daemon that was started has not ended.
func (h *Host) Runs() {
	h.t.Helper()
	select {
	case <-h.ended:
		h.t.Fatalf("host %s: its daemon has ended: %v", h.Name, h.daemon.ProcessState)
	default:
	}
}

// MostMemory is the most memory that the daemon has had, in bytes.
func (h *Host) MostMemory() int64 {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemon.Process.Pid))
	h.must(err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			h.must(err)
			return kib << 10
		}
	}
	h.must(errors.New("its daemon has no memory"))
	return 0
}

// Cut takes the host's link down, Join takes it up again.
func (h *Host) Cut() { h.n.do("ip", "link", "set", h.link(), "down") }

// Join takes the host's link up again.
func (h *Host) Join() { h.n.do("ip", "link", "set", h.link(), "up") }

// Lost is how many packets were lost.
func (h *Host) Lost() (lost int) {
	h.t.Helper()
	for line := range strings.Lines(h.Do("iptables", "-w", "-L", "INPUT", "-n", "-v", "-x")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "DROP" {
			n, err := strconv.Atoi(f[0])
			h.must(err)
			lost += n
		}
	}
	return lost
}

// Root is where the host's files are, seen from outside of it.
func (h *Host) Root() string { return fmt.Sprintf("/proc/%d/root", h.init.Process.Pid) }
