//go:build real

package clustertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// play makes the test binary something else: a program that starts a cluster and does not end, or one that ends at
// once with code 7.
const play = "VOLARY_TEST_PLAY"

func TestMain(m *testing.M) {
	Isolate()
	switch os.Getenv(play) {
	case "exit":
		os.Exit(7)
	case "start", "detach":
		c, err := Start(context.Background(), Options{Dir: os.Args[1], Peers: 1, Subnet: 7, Detach: os.Getenv(play) == "detach"})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := json.NewEncoder(os.Stdout).Encode([]identity{c.Nodes[0].Kubo.id, c.Nodes[0].Service.id}); err != nil {
			os.Exit(1)
		}
		if os.Getenv(play) == "start" {
			select {}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// player is this program in a role, in a namespace of its own.
func player(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), play+"="+role, isolatedIn+"=none")
	cmd.Stderr = os.Stderr
	return cmd
}

// daemons are those of the numbers that a player prints.
func daemons(t *testing.T, cmd *exec.Cmd) []*Daemon {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []identity
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ids)
	}
	if err != nil {
		t.Fatal(errors.Join(err, cmd.Process.Kill(), cmd.Wait()))
	}
	var all []*Daemon
	for _, id := range ids {
		all = append(all, &Daemon{Name: fmt.Sprint(id.PID), id: id})
	}
	if len(all) != 2 || !all[0].running() || !all[1].running() {
		t.Errorf("%v do not run", ids)
	}
	return all
}

func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Dir = t.TempDir()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n := c.Running(); n != 0 {
			t.Errorf("%d daemons run after the end", n)
		}
	})
	return c
}

func TestAnIsolatedProgramHasLoopbackAlone(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 {
			t.Errorf("there is %s, and it is up", i.Name)
		}
	}
	l, err := net.Listen("tcp", "127.9.9.9:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestAnIsolatedProgramEndsAsItDoesByItself(t *testing.T) {
	var exit *exec.ExitError
	if err := player(t, "exit").Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got %v, want exit code 7", err)
	}
}

func TestNoDaemonOutlivesTheProgramThatStartedIt(t *testing.T) {
	cmd := player(t, "start", t.TempDir())
	all := daemons(t, cmd)
	// The outer program, as whoever runs tests would kill it.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, d := range all {
		wantGone(t, d)
	}
}

func wantGone(t *testing.T, d *Daemon) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); d.running(); <-tick.C {
		if time.Now().After(end) {
			t.Errorf("%s still runs: %v", d.Name, d.Kill())
			return
		}
	}
}

func TestDetachedDaemonsAreFoundAgainAndStopped(t *testing.T) {
	dir := t.TempDir()
	cmd := player(t, "detach", dir)
	all := daemons(t, cmd)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Running() != 2 || c.PID() != all[0].id.PID {
		t.Errorf("%d daemons run, the first is %d; want 2, and %d", c.Running(), c.PID(), all[0].id.PID)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, d := range all {
		wantGone(t, d)
	}
	if c.Running() != 0 || c.PID() != 0 {
		t.Errorf("%d daemons run after the end", c.Running())
	}
}

func TestANodeThatStartsAgainHasWhatItHad(t *testing.T) {
	c := start(t, Options{Peers: 2})
	n := c.Nodes[1]
	block, err := n.PutBlock(t.Context(), []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{n.Stop, n.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if n.Kubo.running() || n.Service.running() {
			t.Fatal("it runs although it was ended")
		}
		if err := errors.Join(n.Start(), c.Ready(t.Context(), c.Nodes...)); err != nil {
			t.Fatal(err)
		}
		if _, err := n.ask(t.Context(), "POST", n.RPCURL()+"/api/v0/block/stat?offline=true&arg="+block, "", nil); err != nil {
			t.Error(err)
		}
	}
}

func TestAFrozenNodeAnswersOnceItIsThawed(t *testing.T) {
	c := start(t, Options{Peers: 1})
	n := c.Nodes[0]
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.kuboReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("frozen: %v", err)
	}
	if err := errors.Join(n.Thaw(), c.Ready(t.Context(), n)); err != nil {
		t.Error(err)
	}
}

// A number that was recorded may be another process's by now.
func TestAProcessOfTheSameNumberIsNotTouched(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := &Daemon{Name: "other", id: identity{cmd.Process.Pid, started + 1}}
	if err := errors.Join(other.Stop(), other.Kill()); err != nil || other.running() {
		t.Errorf("%v, running %t", err, other.running())
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other process is gone: %v", err)
	}
	same := &Daemon{Name: "same", id: identity{cmd.Process.Pid, started}}
	if err := same.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
}
