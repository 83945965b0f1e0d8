package main

import (
	"bytes"
	"fmt"
)

// write writes the fourth part as Markdown.
func (r *dockerResults) write(b *bytes.Buffer) {
	s := r.sizes
	fmt.Fprintf(b, `
# Volumes of containers

Real Docker engines, each on a host of its own: namespaces of this machine, joined by a bridge. Medians of rounds, contenders
of a table in turns. The figure in brackets is the speed as a part of the local driver's. What containers read was compared.

- local driver: the engine's own volumes, on the same disk as those of volary
- first byte: from the beginning of "docker run", which makes the volume as well, to the first byte of a file that "cat" in
  the container prints. The volume of the local driver is empty, and it is a file of the image that is read. Volary's is
  made by "from=" of a snapshot of %.1f GiB, %s files in %d directories, which another host has; the host that reads has
  just been made, and knows of the other one that it is there
- rclone: "rclone serve docker", of what "rclone serve sftp" serves on the other host, one part in %d of the dataset
- ipfs get: of one directory of the dataset, %s files and no more, from a Kubo daemon on the other host by one that has just
  been made, connected before the time begins; what it got is bind mounted
- pgbench: PostgreSQL with its usual settings but no autovacuum, scale %d, %d clients, runs of %d s after a
  checkpoint; the databases of all contenders run, and one of them works at a time. Volary's volumes begin as a snapshot of the
  database, and what is written to is copied up in the first run; that of the local driver is a copy of the same files
- hundred: %d containers are started by "docker run -d", %d at a time, and go on once they have read a file of a volume of %s
  files; the dataset is on the same host

`, gib(s.large.bytes()), thousands(s.large.all()), s.large.parts*s.large.dirs, s.large.parts, thousands(s.large.files),
		s.scale, pgClients, s.seconds, s.containers, atATime, thousands(s.small.all()))
	p := part{title: "volumes of containers", targets: r.targets(), rows: dockerRows(), bases: []string{localName}}
	for _, g := range dockerGroups() {
		p.tables = append(p.tables, g.table)
	}
	r.writePart(b, p)
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// later asks for a figure of volumes to be at most so much more than that of the local driver.
func (r *dockerResults) later(f figure, limit float64) target {
	w := f.row()
	t := unmeasured(fmt.Sprintf("%s, against an empty volume of the %s", f, localName), fmt.Sprintf("less than %.0f %s more", limit, w.unit))
	own, ok := r.median(f, volumeName)
	base, also := r.median(f, localName)
	if !ok || !also {
		return t
	}
	t.measured = fmt.Sprintf("%.*f %s more (%.*f and %.*f)", w.digits, own-base, w.unit, w.digits, own, w.digits, base)
	t.verdict = verdict(own-base < limit)
	return t
}

// beside asks for a contender to have at least such a part of the speed of the local driver.
func (r *dockerResults) beside(f figure, who string, part float64) target {
	return r.atLeast(fmt.Sprintf("%s, %s, against the %s", f, who, localName), who, localName, f, part)
}
