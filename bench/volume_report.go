package main

import (
	"bytes"
	"fmt"
)

// write writes the second part as Markdown.
func (r *volumeResults) write(b *bytes.Buffer) {
	b.WriteString("\n# Volumes\n\n")
	s := r.sizes
	fmt.Fprintf(b, `A snapshot mounted as a volume, beside a directory of the same ext4 and beside what peers show by FUSE. Few files
are %d; many are %s in %d directories of %d, %d of them below one; one directory is such a one alone; the large
file has %d MiB. Files but the large one have some 20 bytes, and ext4 keeps them in their inodes, in a file system of
their own. Medians; peers in turns. The figure in brackets is the speed as a part of ext4's, or where ext4 has none of
the volume's.

- cold: mounted anew, the daemon of the volume (at "first stat-walk") started anew as well; blocks, packs and
  repositories are in the page cache
- create and mount, commit: two commands and one, until the last one ended; what they promise is then on disk
- lower=full: a volume whose snapshot was copied to the disk when it was mounted
- stat by name: of files in directories that were not listed before
- commit: the volume stays mounted, one file of it gets new content; the daemon and the command are volary's, ext4's
  line is what the disk takes to make one such file durable
- restic, kopia: a repository without compression; their next snapshot is of %d of the mounted volume's
  directories, %s files, after the same change
- ipfs mount: of a daemon that talks to nobody
- volume, cluster: a volume whose blocks are in the first of three Kubo daemons, each with a peer of an IPFS Cluster, on
  this machine; acknowledged is when the command has ended, pinned when two of the daemons list the pin, from the
  beginning of the command; %s pins, each with 1,000 bytes of metadata, are on the host and in the cluster
- go build: with an empty build cache, which is in the volume too, until everything was on disk

`, s.few, thousands(s.dirs*s.files), s.dirs, s.files, s.part, s.one>>20, s.part, thousands(s.part*s.files), thousands(s.pins))
	p := part{title: "volumes", targets: r.targets(), rows: rows(), bases: []string{plainName, volumeName}}
	for _, g := range groups() {
		p.tables = append(p.tables, table{g.name, g.title, g.contenders})
	}
	r.writePart(b, p)
}
