package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

type restic struct {
	meter *meter
	bin   string
	env   []string
}

func openRestic(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	r := &restic{m, bin, environment(dir,
		"RESTIC_REPOSITORY="+filepath.Join(dir, "repo"),
		"RESTIC_CACHE_DIR="+filepath.Join(dir, "cache"),
		"RESTIC_PASSWORD=bench",
		"RESTIC_COMPRESSION=off")}
	_, err := quietly(command(ctx, r.env, r.bin, "init"))
	return r, err
}

func (r *restic) Snapshot(ctx context.Context, src string) (string, usage, error) {
	// Without the scan, which only serves the progress bar, it is a little faster.
	out, u, err := r.meter.Run(command(ctx, r.env, r.bin, "backup", "--no-scan", "--json", src))
	if err != nil {
		return "", u, err
	}
	var summary struct {
		ID string `json:"snapshot_id"`
	}
	last := out[strings.LastIndexByte(out, '\n')+1:]
	if err := json.Unmarshal([]byte(last), &summary); err != nil || summary.ID == "" {
		return "", u, fmt.Errorf("restic backup ended with %q, which names no snapshot", last)
	}
	return summary.ID, u, nil
}

func (r *restic) Restore(ctx context.Context, id, src, dst string) (usage, error) {
	_, u, err := r.meter.Run(command(ctx, r.env, r.bin, "restore", "--quiet", id+":"+src, "--target", dst))
	return u, err
}

func (r *restic) File(ctx context.Context, id, src, path, dst string) (usage, error) {
	f, err := os.Create(dst)
	if err != nil {
		return usage{}, err
	}
	cmd := command(ctx, r.env, r.bin, "dump", "--quiet", id, filepath.Join(src, path))
	cmd.Stdout = f
	_, u, err := r.meter.Run(cmd)
	return u, errors.Join(err, f.Close())
}

func (r *restic) Close() error { return nil }

// Mount serves the repository from a process of its own.
func (r *restic) Mount(ctx context.Context, id, src, dir string) (mounted, error) {
	s, err := startServer(command(ctx, r.env, r.bin, "mount", "--no-lock", "--path-template", "%I", dir), "Now serving")
	return serve(s, err, dir, filepath.Join(dir, id, src))
}
