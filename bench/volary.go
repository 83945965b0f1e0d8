package main

import (
	"context"
	"fmt"
	"strings"
)

type volary struct {
	meter *meter
	bin   string
	env   []string
}

func openVolary(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	v := &volary{m, bin, environment(dir, "VOLARY_HOME="+dir)}
	_, err := quietly(command(ctx, v.env, v.bin, "init"))
	return v, err
}

func (v *volary) Snapshot(ctx context.Context, src string) (string, usage, error) {
	out, u, err := v.meter.Run(command(ctx, v.env, v.bin, "snapshot", src))
	if err == nil && len(strings.Fields(out)) != 1 {
		err = fmt.Errorf("volary snapshot printed %q, not one CID", out)
	}
	return out, u, err
}

func (v *volary) Restore(ctx context.Context, id, _, dst string) (usage, error) {
	_, u, err := v.meter.Run(command(ctx, v.env, v.bin, "restore", id, dst))
	return u, err
}

func (v *volary) File(ctx context.Context, id, _, path, dst string) (usage, error) {
	_, u, err := v.meter.Run(command(ctx, v.env, v.bin, "restore", id+"/"+path, dst))
	return u, err
}

func (v *volary) Close() error { return nil }
