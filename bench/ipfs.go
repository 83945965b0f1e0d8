package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

type ipfs struct {
	meter  *meter
	bin    string
	repo   string
	env    []string
	daemon *server // nil if commands open the repository themselves
}

// openIPFS makes a repository of the profile whose trees volary's are equal to, for a node that talks to nobody.
func openIPFS(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	return initIPFS(ctx, m, bin, dir)
}

func initIPFS(ctx context.Context, m *meter, bin, dir string) (*ipfs, error) {
	repo := filepath.Join(dir, "repo")
	i := &ipfs{meter: m, bin: bin, repo: repo, env: environment(dir, "IPFS_PATH="+repo, "IPFS_TELEMETRY=off")}
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
func (i *ipfs) run(cmd *exec.Cmd) (out string, u usage, err error) {
	if i.daemon == nil {
		return i.meter.Run(cmd)
	}
	u, err = i.withDaemon(func() (u usage, err error) { out, u, err = i.meter.Run(cmd); return u, err })
	return out, u, err
}

// alone measures what the daemon does, without the CPU and memory of whoever has it do so.
func (i *ipfs) alone(step func() error) (usage, error) {
	return i.withDaemon(func() (usage, error) { return i.meter.Measure(step) })
}

func (i *ipfs) withDaemon(measure func() (usage, error)) (usage, error) {
	pid := i.daemon.cmd.Process.Pid
	before, err := cpuTime(pid)
	if err := errors.Join(err, resetPeak(pid)); err != nil {
		return usage{}, err
	}
	u, err := measure()
	if err != nil {
		return u, err
	}
	after, cpuErr := cpuTime(pid)
	memory, memoryErr := peakMemory(pid)
	u.CPU += after - before
	u.Memory += memory
	return u, errors.Join(cpuErr, memoryErr)
}

func (i *ipfs) Close() error {
	if i.daemon == nil {
		return nil
	}
	return i.daemon.stop()
}

// startIPFS opens a repository and serves it by a daemon.
func startIPFS(ctx context.Context, m *meter, bin, dir string) (*ipfs, error) {
	i, err := initIPFS(ctx, m, bin, dir)
	if err != nil {
		return nil, err
	}
	if i.daemon, err = startServer(command(ctx, i.env, bin, "daemon"), "Daemon is ready"); err != nil {
		return nil, err
	}
	return i, nil
}

// api is the multiaddress of the daemon's RPC.
func (i *ipfs) api() (string, error) {
	text, err := os.ReadFile(filepath.Join(i.repo, "api"))
	return strings.TrimSpace(string(text)), err
}

// Mount has the daemon serve all it has at a directory.
func (i *ipfs) Mount(ctx context.Context, id, _, dir string) (mounted, error) {
	var args []string
	for _, flag := range []string{"--ipfs-path", "--ipns-path", "--mfs-path"} {
		at := filepath.Join(dir, flag)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return mounted{}, err
		}
		args = append(args, flag+"="+at)
	}
	_, err := quietly(command(ctx, i.env, i.bin, append([]string{"mount"}, args...)...))
	end := func() error { return detachBelow(dir) }
	return mounted{dir: filepath.Join(dir, "--ipfs-path", id), end: end}, err
}
