package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

type kopia struct {
	meter *meter
	bin   string
	env   []string
}

func openKopia(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	k := &kopia{m, bin, environment(dir,
		"KOPIA_CONFIG_PATH="+filepath.Join(dir, "config", "repository.config"),
		"KOPIA_LOG_DIR="+filepath.Join(dir, "log"),
		"KOPIA_CACHE_DIRECTORY="+filepath.Join(dir, "cache"),
		"KOPIA_PASSWORD=bench",
		"KOPIA_CHECK_FOR_UPDATES=false",
		"KOPIA_USE_KEYRING=false",
		"KOPIA_PERSIST_CREDENTIALS_ON_CONNECT=false")}
	_, err := quietly(k.command(ctx, "repository", "create", "filesystem", "--path", filepath.Join(dir, "repo")))
	return k, err
}

// command leaves maintenance out: it would fall into one measured step or another by chance.
func (k *kopia) command(ctx context.Context, args ...string) *exec.Cmd {
	return command(ctx, k.env, k.bin, append(args, "--no-auto-maintenance", "--no-progress")...)
}

func (k *kopia) Snapshot(ctx context.Context, src string) (string, usage, error) {
	out, u, err := k.meter.Run(k.command(ctx, "snapshot", "create", "--json", src))
	if err != nil {
		return "", u, err
	}
	var manifest struct {
		Root struct {
			Object string `json:"obj"`
		} `json:"rootEntry"`
	}
	if err := json.Unmarshal([]byte(out), &manifest); err != nil || manifest.Root.Object == "" {
		return "", u, fmt.Errorf("kopia snapshot create printed %q, which names no root", tail(out))
	}
	return manifest.Root.Object, u, nil
}

func (k *kopia) Restore(ctx context.Context, id, _, dst string) (usage, error) {
	_, u, err := k.meter.Run(k.command(ctx, "restore", id, dst))
	return u, err
}

func (k *kopia) File(ctx context.Context, id, _, path, dst string) (usage, error) {
	_, u, err := k.meter.Run(k.command(ctx, "restore", id+"/"+path, dst))
	return u, err
}

func (k *kopia) Close() error { return nil }

// Mount serves the snapshot from a process of its own.
func (k *kopia) Mount(ctx context.Context, id, _, dir string) (mounted, error) {
	s, err := startServer(k.command(ctx, "mount", id, dir), "Mounted '")
	return serve(s, err, dir, dir)
}
