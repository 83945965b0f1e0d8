package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// measureMounts makes and mounts volumes of snapshots of different sizes, and reads a byte of each. The state was
// durable before each: what a mount writes is what it waits for. The first round is not counted.
func (p *volumePlan) measureMounts(ctx context.Context, g group) error {
	cases := []struct {
		tree, file  string
		mount, byte figure
	}{
		{fewTree, fileName(p.sizes.few / 2), mountFew, byteFew},
		{manyTree, filepath.Join(dirName(p.sizes.dirs-1), fileName(p.sizes.files/2)), mountMany, byteMany},
		{oneTree, "big", mountOne, byteOne},
	}
	for round := range p.rounds + 1 {
		for i := range cases {
			c := cases[(i+round)%len(cases)]
			t, err := p.snapshot(ctx, c.tree)
			if err != nil {
				return err
			}
			var m mounted
			mount, err := p.meter.Measure(func() (err error) { m, err = p.mountVolume(ctx, t); return err })
			if err != nil {
				return err
			}
			read, err := timed(func() error { return firstByte(filepath.Join(m.dir, c.file)) })
			if err := errors.Join(err, m.end()); err != nil {
				return err
			}
			if round == 0 {
				continue // a daemon's first mount of all starts what keeps its mounts
			}
			p.res.record(c.mount, volumeName, 1000*mount.Plain.Seconds())
			p.res.record(c.byte, volumeName, 1000*read)
		}
	}
	return nil
}

// measureReads reads a file that is in memory.
func (p *volumePlan) measureReads(ctx context.Context, g group) error {
	places, err := p.places(ctx, g, oneTree)
	if err != nil {
		return err
	}
	if p.wants(g, fullName) {
		if err := p.host.create(ctx, g.name+"-full", p.trees[oneTree].root, "lower=full"); err != nil {
			return err
		}
		if places[fullName], err = p.host.mount(ctx, g.name+"-full"); err != nil {
			return err
		}
	}
	for _, dir := range places {
		if err := readAll(filepath.Join(dir, "big"), p.sizes.one); err != nil {
			return err
		}
	}
	if err := sameContent(filepath.Join(places[plainName], "big"), filepath.Join(places[volumeName], "big")); err != nil {
		return err
	}
	err = p.inTurns(g, 3*p.rounds, func(who string, _ int) error {
		file := filepath.Join(places[who], "big")
		took, err := timed(func() error { return readAll(file, p.sizes.one) })
		if err != nil {
			return err
		}
		p.res.record(warmRead, who, float64(p.sizes.one)/1e9/took)
		took, err = timed(func() error { return readRandomly(file, p.sizes.one, p.sizes.reads) })
		p.res.record(warmRandom, who, float64(p.sizes.reads)/1000/took)
		return err
	})
	return errors.Join(err, p.host.umountAll(ctx))
}

// measureWrites writes a file, syncs and removes it.
func (p *volumePlan) measureWrites(ctx context.Context, g group) error {
	places, err := p.places(ctx, g, "")
	if err != nil {
		return err
	}
	err = p.inTurns(g, 2*p.rounds, func(who string, _ int) error {
		file := filepath.Join(places[who], "new")
		u, err := p.meter.Measure(func() error { return writeOnce(file, p.sizes.one) })
		if err != nil {
			return err
		}
		p.res.record(newWrite, who, float64(p.sizes.one)/1e9/u.Plain.Seconds())
		if err := os.Remove(file); err != nil {
			return err
		}
		unix.Sync()
		settle() // the disk is told of the freed blocks in the background
		return nil
	})
	return errors.Join(err, p.host.umount(ctx, g.name))
}

// measureWalks walks many files: cold from a fresh daemon and mount, then warm.
func (p *volumePlan) measureWalks(ctx context.Context, g group) error {
	places, err := p.places(ctx, g, manyTree)
	if err != nil {
		return err
	}
	entries := p.trees[manyTree].entries
	walk := func(f figure, who string) error {
		n := 0
		took, err := timed(func() (err error) { n, err = statWalk(places[who]); return err })
		if err == nil && n != entries {
			err = fmt.Errorf("%s has %d entries, not %d", places[who], n, entries)
		}
		p.res.record(f, who, 1e6*took/float64(entries))
		return err
	}
	err = p.inTurns(g, p.rounds, func(who string, _ int) error {
		if who == plainName {
			return errors.Join(p.remountImage(ctx, manyTree), walk(coldWalk, who))
		}
		dir, err := p.host.reread(ctx, g.name)
		if err != nil {
			return err
		}
		places[who] = dir
		if err := errors.Join(walk(coldWalk, who), find(ctx, dir)); err != nil {
			return err
		}
		peak, err := peakMemory(p.host.daemon.cmd.Process.Pid)
		p.res.record(walkMemory, who, mib(peak))
		return err
	})
	if err != nil {
		return err
	}
	err = p.inTurns(g, 2*p.rounds, func(who string, _ int) error {
		took, err := timed(func() error { return find(ctx, places[who]) })
		p.res.record(warmFind, who, 1e6*took/float64(entries))
		return errors.Join(err, walk(warmWalk, who))
	})
	return errors.Join(err, p.host.umount(ctx, g.name))
}

func find(ctx context.Context, dir string) error {
	_, err := quietly(exec.CommandContext(ctx, "find", dir, "-name", "no such name"))
	return err
}

// measurePrograms runs a database and a compiler.
func (p *volumePlan) measurePrograms(ctx context.Context, g group) error {
	places, err := p.places(ctx, g, moduleTree)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("sqlite3"); err != nil {
		p.res.leaveOut(string(sqliteInsert), err)
	} else if err := p.measureSQLite(ctx, g, places); err != nil {
		return err
	}
	err = p.inTurns(g, p.rounds, func(who string, _ int) error {
		dir := places[who]
		cache := filepath.Join(dir, "cache")
		if err := os.Mkdir(cache, 0o755); err != nil {
			return err
		}
		cmd := command(ctx, environment(cache, "GOCACHE="+cache, "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=", "GOTELEMETRY=off"),
			"go", "build", "-o", "program", ".")
		cmd.Dir = dir
		_, u, err := p.meter.Run(cmd)
		if err != nil {
			return err
		}
		p.res.record(goBuild, who, u.Durable.Seconds())
		return errors.Join(os.RemoveAll(cache), os.Remove(filepath.Join(dir, "program")))
	})
	return errors.Join(err, p.host.umount(ctx, g.name))
}

func (p *volumePlan) measureSQLite(ctx context.Context, g group, places map[string]string) error {
	const each = 100
	var insert, query strings.Builder
	insert.WriteString("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER);\nCREATE INDEX names ON t (name);\n")
	for i := range p.sizes.inserts {
		insert.WriteString("BEGIN;\n")
		for j := range each {
			n := i*each + j
			fmt.Fprintf(&insert, "INSERT INTO t VALUES (%d, 'name %d', %d);\n", n, n*7919%1_000_003, n%97)
		}
		insert.WriteString("COMMIT;\n")
	}
	for i := range p.sizes.inserts * each {
		fmt.Fprintf(&query, "SELECT id FROM t WHERE name = 'name %d' AND n = -1;\n", i*7919%1_000_003)
	}
	query.WriteString("SELECT count(*) FROM t;\n")
	return p.inTurns(g, p.rounds, func(who string, _ int) error {
		db := filepath.Join(places[who], "test.db")
		for _, step := range []struct {
			figure       figure
			script, want string
		}{{sqliteInsert, insert.String(), ""}, {sqliteSelect, query.String(), fmt.Sprint(p.sizes.inserts * each)}} {
			cmd := command(ctx, environment(p.work), "sqlite3", "-batch", db)
			cmd.Stdin = strings.NewReader(step.script)
			out, u, err := p.meter.Run(cmd)
			if err == nil && out != step.want {
				err = fmt.Errorf("sqlite3 printed %q, not %q", tail(out), step.want)
			}
			if err != nil {
				return err
			}
			p.res.record(step.figure, who, u.Plain.Seconds())
		}
		return os.Remove(db)
	})
}
