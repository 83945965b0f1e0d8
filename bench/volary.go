package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

type volary struct {
	bin string
	env []string
	run func(*exec.Cmd) (string, usage, error)
	end func() error
}

func openVolary(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	v := &volary{bin, environment(dir, "VOLARY_HOME="+dir), m.Run, func() error { return nil }}
	_, err := quietly(command(ctx, v.env, v.bin, "init"))
	return v, err
}

// openVolaryOnKubo starts a daemon like the one that ipfs itself is measured with, and has volary keep its blocks there.
func openVolaryOnKubo(ctx context.Context, m *meter, t tools, dir string) (repository, error) {
	i, err := startIPFS(ctx, m, t.ipfs, dir)
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "volary")
	v := &volary{t.volary, environment(dir, "VOLARY_HOME="+home), i.run, i.Close}
	api, err := i.api()
	if err == nil {
		_, err = quietly(command(ctx, v.env, v.bin, "init", "--kubo", api))
	}
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return v, nil
}

func (v *volary) Snapshot(ctx context.Context, src string) (string, usage, error) {
	out, u, err := v.run(command(ctx, v.env, v.bin, "snapshot", src))
	if err == nil && len(strings.Fields(out)) != 1 {
		err = fmt.Errorf("volary snapshot printed %q, not one CID", out)
	}
	return out, u, err
}

func (v *volary) Restore(ctx context.Context, id, _, dst string) (usage, error) {
	_, u, err := v.run(command(ctx, v.env, v.bin, "restore", id, dst))
	return u, err
}

func (v *volary) File(ctx context.Context, id, _, path, dst string) (usage, error) {
	_, u, err := v.run(command(ctx, v.env, v.bin, "restore", id+"/"+path, dst))
	return u, err
}

func (v *volary) Close() error { return v.end() }
