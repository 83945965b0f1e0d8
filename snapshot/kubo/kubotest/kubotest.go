// Package kubotest runs real Kubo daemons for tests.
//
// Start with [Start], which gives a test a daemon of its own; [Init] and [Daemon.Start] do the same without a
// test. A daemon is found by the name ipfs in PATH. It listens on loopback alone, on ports the kernel chose, and
// looks for nobody: no bootstrap peers, no discovery, no routing, no port mapping. It ends with the process
// that started it.
package kubotest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a daemon. The zero value is Kubo as it comes, with the profile that Volary's trees are of.
type Options struct {
	Profiles []string       // added to unixfs-v1-2025, such as pebbleds
	API      string         // multiaddr to listen on; a port of 127.0.0.1 if empty
	Config   map[string]any // settings by dotted name, such as "API.Authorizations"
}

// patience is how long a daemon may take to begin or to end.
const patience = time.Minute

// Daemon is a repository and, between Start and Stop, the process that serves it. It is for one goroutine at a
// time.
type Daemon struct {
	Repo string // directory

	bin     string
	process *exec.Cmd
	exited  chan struct{}
	log     *tail
}

// Start runs a daemon until the end of the test.
func Start(t testing.TB, o Options) *Daemon {
	t.Helper()
	d, err := Init(t.Context(), filepath.Join(t.TempDir(), "ipfs"), o)
	if err == nil {
		err = d.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Init makes a repository at a path that does not exist.
func Init(ctx context.Context, repo string, o Options) (*Daemon, error) {
	bin, err := exec.LookPath("ipfs")
	if err != nil {
		return nil, fmt.Errorf("find Kubo (make tools builds it): %w", err)
	}
	d := &Daemon{Repo: repo, bin: bin}
	profiles := strings.Join(append([]string{"unixfs-v1-2025"}, o.Profiles...), ",")
	if _, err := d.Run(ctx, "init", "--empty-repo", "--profile="+profiles); err != nil {
		return nil, err
	}
	settings := isolated()
	if o.API != "" {
		settings["Addresses.API"] = o.API
	}
	for name, value := range o.Config {
		settings[name] = value
	}
	return d, d.configure(settings)
}

// isolated is what keeps a daemon to itself.
func isolated() map[string]any {
	const anyPort = "/ip4/127.0.0.1/tcp/0"
	return map[string]any{
		"Addresses.API":                  anyPort,
		"Addresses.Gateway":              []string{},
		"Addresses.Swarm":                []string{anyPort},
		"AutoConf.Enabled":               false,
		"AutoNAT.ServiceMode":            "disabled",
		"AutoTLS.Enabled":                false,
		"Bootstrap":                      []string{},
		"DNS.Resolvers":                  map[string]string{},
		"Discovery.MDNS.Enabled":         false,
		"HTTPRetrieval.Enabled":          false,
		"Ipns.DelegatedPublishers":       []string{},
		"Provide.Enabled":                false,
		"Routing.DelegatedRouters":       []string{},
		"Routing.Type":                   "none",
		"Swarm.DisableNatPortMap":        true,
		"Swarm.EnableHolePunching":       false,
		"Swarm.RelayClient.Enabled":      false,
		"Swarm.RelayService.Enabled":     false,
		"Swarm.Transports.Network.Relay": false,
		"Version.SwarmCheckEnabled":      false,
	}
}

func (d *Daemon) configure(settings map[string]any) error {
	path := filepath.Join(d.Repo, "config")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for name, value := range settings {
		words := strings.Split(name, ".")
		at := config
		for _, word := range words[:len(words)-1] {
			below, ok := at[word].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[word] = below
			}
			at = below
		}
		at[words[len(words)-1]] = value
	}
	if text, err = json.MarshalIndent(config, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// Start serves the repository and returns once the daemon is ready.
func (d *Daemon) Start(ctx context.Context) error {
	if d.process != nil {
		return errors.New("start Kubo: it runs already")
	}
	cmd := exec.Command(d.bin, "daemon")
	cmd.Env = d.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.log = &tail{}
	cmd.Stderr = d.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Kubo: %w", err)
	}
	ready, exited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Daemon is ready") {
				close(ready)
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // how it ended is told by who waits for it
	}()
	d.process, d.exited = cmd, exited
	select {
	case <-ready:
		return nil
	case <-exited:
		d.process = nil
		return fmt.Errorf("start Kubo: it ended: %s", d.log)
	case <-ctx.Done():
		return errors.Join(ctx.Err(), d.Kill())
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("start Kubo: not ready after %s: %s", patience, d.log), d.Kill())
	}
}

// Stop ends the daemon in an orderly way. One that does not run is stopped already.
func (d *Daemon) Stop() error {
	if d.process == nil {
		return nil
	}
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop Kubo: %w", err)
	}
	select {
	case <-d.exited:
		d.process = nil
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("stop Kubo: it did not end within %s", patience), d.Kill())
	}
}

// Kill ends the daemon at once, as a crash does.
func (d *Daemon) Kill() error {
	if d.process == nil {
		return nil
	}
	if err := d.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill Kubo: %w", err)
	}
	<-d.exited
	d.process = nil
	return nil
}

// Pause makes the daemon answer nothing until Resume.
func (d *Daemon) Pause() error {
	if err := d.process.Process.Signal(unix.SIGSTOP); err != nil {
		return fmt.Errorf("pause Kubo: %w", err)
	}
	for {
		err := unix.Waitid(unix.P_PID, d.PID(), nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// Resume ends a Pause.
func (d *Daemon) Resume() error { return d.process.Process.Signal(unix.SIGCONT) }

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.process.Process.Pid }

// API is the multiaddr that the running daemon's RPC listens on. It is another one after each Start, unless
// Options gave one.
func (d *Daemon) API() (string, error) {
	b, err := os.ReadFile(filepath.Join(d.Repo, "api"))
	return strings.TrimSpace(string(b)), err
}

// SwarmAddr is where the running daemon takes connections of its swarm: a multiaddr with its peer ID.
func (d *Daemon) SwarmAddr(ctx context.Context) (string, error) {
	out, err := d.Run(ctx, "id")
	if err != nil {
		return "", err
	}
	var id struct{ Addresses []string }
	if err := json.Unmarshal([]byte(out), &id); err != nil || len(id.Addresses) == 0 {
		return "", errors.Join(fmt.Errorf("ipfs id printed no address: %s", out), err)
	}
	return id.Addresses[0], nil
}

// Run runs an ipfs command on the repository, through the daemon if one runs, and returns what it printed.
func (d *Daemon) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = d.env()
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("ipfs %s: %w: %s", strings.Join(args, " "), err, &failure)
	}
	return out.String(), nil
}

func (d *Daemon) env() []string {
	return append(os.Environ(), "IPFS_PATH="+d.Repo, "IPFS_TELEMETRY=off", "IPFS_LOGGING=error", "HOME="+filepath.Dir(d.Repo))
}
