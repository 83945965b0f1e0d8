package main

import (
	"bytes"
	"fmt"
)

// notSlower is the part of another's speed from which on two are as fast as each other, as far as can be told.
const notSlower = 0.95

// write writes the third part as Markdown.
func (r *networkResults) write(b *bytes.Buffer) {
	fmt.Fprintf(b, `
# Several hosts

All on this machine, over loopback and nothing else. Medians of rounds, contenders of a table in turns.

- 50 hosts: in one process, each with a table of heads on the disk, connected to each other by TCP; 300 heads, one
  each 100 ms, from "recorded, and to be told" to "recorded there"
- three daemons: of one namespace, connected to each other; %d commits of a mounted volume in a round, of one small
  changed file each, on one of them; from "volary volume commit has ended" to a line of "volary watch" on the two others;
  a daemon may tell the others before the command has ended, which gives times below zero
- a new host: empty, to 199 connected hosts that have 10,000 volumes, all in one process
- cold reads: %d MiB of random bytes, new in each round, from a daemon that has them to one that has just been
  made; what is read is in the page cache, nothing of it where it is read. The figure in brackets is the speed as a part
  of the libp2p stream's. Connections stand before the time begins. After each first read the bytes were compared
- libp2p stream: from memory, between two hosts in one process: TCP, the swarm key, Noise and yamux, as volary has them
- cat: "volary cat" to /dev/null, through the daemon; volume: a volume of the snapshot, mounted, read by dd; hydrate: until
  all is in the store and synced; restore: to a file
- ipfs get: to a file, between two Kubo daemons of a swarm with a key, who know only each other
- curl: to /dev/null, from a file server in this program, without any encryption

`, r.sizes.commits, r.sizes.file>>20)
	p := part{title: "several hosts", targets: r.targets(), rows: networkRows(), bases: []string{streamName}}
	for _, g := range networkGroups() {
		p.tables = append(p.tables, g.table)
	}
	r.writePart(b, p)
}

// below asks for a figure to be below a limit.
func (r *networkResults) below(who string, f figure, limit float64) target {
	return r.lessThan(who+": "+string(f), who, f, limit)
}

// beside asks for a cold read to have at least such a part of the speed of another one.
func (r *networkResults) beside(who, other string, part float64) target {
	return r.atLeast("cold read, "+who+", against "+other, who, other, readSpeed, part)
}
