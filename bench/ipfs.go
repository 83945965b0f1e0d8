package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type ipfs struct {
	meter  *meter
	bin    string
	env    []string
	daemon *ipfsDaemon // nil if commands open the repository themselves
}

// openIPFS makes a repository of the profile whose trees volary's are equal to, for a node that talks to nobody.
func openIPFS(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	return initIPFS(ctx, m, bin, dir)
}

func initIPFS(ctx context.Context, m *meter, bin, dir string) (*ipfs, error) {
	repo := filepath.Join(dir, "repo")
	i := &ipfs{meter: m, bin: bin, env: environment(dir, "IPFS_PATH="+repo, "IPFS_TELEMETRY=off")}
	if _, err := quietly(command(ctx, i.env, i.bin, "init", "--empty-repo", "--profile=unixfs-v1-2025")); err != nil {
		return nil, err
	}
	return i, isolate(filepath.Join(repo, "config"))
}

// isolate takes everything out of a Kubo configuration that would reach beyond this machine, and lets the kernel
// choose the ports.
func isolate(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	const anyPort = "/ip4/127.0.0.1/tcp/0"
	for key, value := range map[string]any{
		"Addresses.Swarm":                []string{anyPort},
		"Addresses.API":                  anyPort,
		"Addresses.Gateway":              anyPort,
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
	} {
		at := config
		words := strings.Split(key, ".")
		for _, word := range words[:len(words)-1] {
			next, ok := at[word].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[word] = next
			}
			at = next
		}
		at[words[len(words)-1]] = value
	}
	if text, err = json.MarshalIndent(config, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func (i *ipfs) Snapshot(ctx context.Context, src string) (string, usage, error) {
	return i.run(command(ctx, i.env, i.bin, "add", "-r", "-Q", "--hidden", "--pin", "--progress=false", src))
}

func (i *ipfs) Restore(ctx context.Context, id, _, dst string) (usage, error) {
	_, u, err := i.run(command(ctx, i.env, i.bin, "get", "--progress=false", "-o", dst, id))
	return u, err
}

func (i *ipfs) File(ctx context.Context, id, _, path, dst string) (usage, error) {
	return i.Restore(ctx, id+"/"+path, "", dst)
}

// run adds what the daemon used to what the command used.
func (i *ipfs) run(cmd *exec.Cmd) (string, usage, error) {
	if i.daemon == nil {
		return i.meter.Run(cmd)
	}
	pid := i.daemon.cmd.Process.Pid
	before, err := cpuTime(pid)
	if err := errors.Join(err, resetPeak(pid)); err != nil {
		return "", usage{}, err
	}
	out, u, err := i.meter.Run(cmd)
	if err != nil {
		return "", u, err
	}
	after, cpuErr := cpuTime(pid)
	memory, memoryErr := peakMemory(pid)
	u.CPU += after - before
	u.Memory += memory
	return out, u, errors.Join(cpuErr, memoryErr)
}

func (i *ipfs) Close() error {
	if i.daemon == nil {
		return nil
	}
	return i.daemon.stop()
}

// ipfsDaemon is a running Kubo daemon. Its owner stops it.
type ipfsDaemon struct {
	cmd    *exec.Cmd
	copied sync.WaitGroup
}

// startIPFS opens a repository and serves it by a daemon.
func startIPFS(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	i, err := initIPFS(ctx, m, bin, dir)
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, i.env, bin, "daemon")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	i.daemon = &ipfsDaemon{cmd: cmd}
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return nil, errors.Join(fmt.Errorf("ipfs daemon ended before it was ready: %w\n%s", err, tail(string(text))), i.daemon.stop())
		}
		if strings.Contains(line, "Daemon is ready") {
			break
		}
	}
	i.daemon.copied.Go(func() { _, _ = io.Copy(io.Discard, lines) })
	return i, nil
}

// stop ends the daemon and waits for it.
func (d *ipfsDaemon) stop() error {
	err := d.cmd.Process.Signal(os.Interrupt)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	kill := time.AfterFunc(20*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	d.copied.Wait()
	waitErr := d.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](waitErr); ok && exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		waitErr = nil // how it ends after an interrupt says nothing
	}
	return errors.Join(err, waitErr)
}

// cpuTime is the CPU a process used since its start.
func cpuTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of 10 ms; the name, field 2, is in brackets.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read %s: %q is too short", path, stat)
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum, nil
}
