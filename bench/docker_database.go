package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/volary/volary/volume/docker/dockertest"
)

const (
	pgClients = 4
	pgRuns    = 4 // in a round, the first one included
)

// measureDatabase runs pgbench in containers with PostgreSQL, which all have the same database to begin with.
func (p *dockerPlan) measureDatabase(s *stage, g dockerGroup) {
	e := dockertest.Together(s, p.tools.volary, "one")[0]
	image, err := filepath.Abs("examples/postgres/image.sh")
	s.must(err)
	e.Do(image)
	d := database{s, e}
	e.Docker("volume", "create", "-d", dockertest.Driver, "-o", "uid=999", "-o", "gid=999", "-o", "mode=700", "seed")
	d.start("seed", "seed")
	e.Docker("exec", "seed", "pgbench", "-U", "postgres", "-iqs", fmt.Sprint(p.sizes.scale), "postgres")
	d.stop("seed")
	for round := range p.rounds {
		d.round(p, g, round)
	}
}

// round has all databases run, one of which works at a time.
func (d database) round(p *dockerPlan, g dockerGroup, round int) {
	names := map[string]string{}
	for i, who := range g.contenders {
		if !p.wants(g, who) {
			continue
		}
		name := fmt.Sprint("db-", i)
		switch who {
		case localName:
			d.e.Box("cp -a /seed/. /db && chown 999:999 /db && chmod 700 /db", "-v", "seed:/seed:ro", "-v", name+":/db")
		case volumeName:
			d.e.Docker("volume", "create", "-d", dockertest.Driver, "-o", "from=seed", name)
		case fullName:
			d.e.Docker("volume", "create", "-d", dockertest.Driver, "-o", "from=seed", "-o", "lower=full", name)
		}
		d.start(name, name)
		names[who] = name
	}
	for run := range pgRuns {
		for _, who := range rotated(g.contenders, round+run) {
			name, wanted := names[who]
			if !wanted {
				continue
			}
			rate, processor := d.run(name, p.sizes.seconds)
			if run == 0 {
				p.res.record(pgFirst, who, rate)
				continue
			}
			p.res.record(pgNext, who, rate)
			p.res.record(pgProcessor, who, processor)
		}
	}
	for _, name := range names {
		d.stop(name)
		d.e.Docker("volume", "rm", name)
	}
}

// database is PostgreSQL in containers of one engine.
type database struct {
	*stage
	e *dockertest.Engine
}

func (d database) start(name, volume string) {
	d.e.Docker("run", "-d", "--name", name, "--network", "none", "--stop-signal", "SIGINT", "--user", "999:999",
		"-e", "PGDATA=/data/db", "-v", volume+":/data", "postgres", "-c", "autovacuum=off", "-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=1h")
	d.e.UntilDocker("PostgreSQL answers", func(string) bool { return true }, "exec", name, "pg_isready", "-q", "-h", "127.0.0.1")
}

func (d database) stop(name string) {
	d.e.Docker("stop", name)
	d.e.Docker("rm", name)
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// run is how many transactions a second are done, and how many µs of the processor the whole host takes for each. What was
// written before is on the disk.
func (d database) run(name string, seconds int) (rate, processor float64) {
	d.e.Docker("exec", name, "psql", "-qU", "postgres", "-c", "CHECKPOINT")
	d.e.Do("sync")
	before := processorOf(d.stage, d.e)
	out := d.e.Docker("exec", name, "pgbench", "-U", "postgres", "-n", "-c", fmt.Sprint(pgClients), "-j", "2", "-T", fmt.Sprint(seconds), "postgres")
	took := processorOf(d.stage, d.e) - before
	found := tps.FindStringSubmatch(out)
	if found == nil {
		d.Fatalf("pgbench printed no tps:\n%s", out)
	}
	rate, err := strconv.ParseFloat(found[1], 64)
	d.must(err)
	return rate, float64(took.Microseconds()) / (rate * float64(seconds))
}
