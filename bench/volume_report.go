package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
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
	for _, line := range r.without {
		fmt.Fprintf(b, "Not measured: %s\n\n", line)
	}
	if len(r.figures) == 0 {
		return
	}
	writeTargets(b, r.targets())
	for _, g := range groups() {
		r.writeGroup(b, g)
	}
	r.writeAll(b)
}

// writeGroup writes what was measured of a group, a contender a column.
func (r *volumeResults) writeGroup(b *bytes.Buffer, g group) {
	measured := slices.DeleteFunc(slices.Clone(g.contenders), func(who string) bool {
		return !slices.ContainsFunc(rows(), func(w row) bool { return w.group == g.name && len(r.figures[series{w.figure, who}]) > 0 })
	})
	if len(measured) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n| | | %s |\n| --- | --- |%s\n", g.title, strings.Join(measured, " | "), strings.Repeat(" ---: |", len(measured)))
	for _, w := range rows() {
		if w.group != g.name {
			continue
		}
		line, any := fmt.Sprintf("| %s | %s |", w.figure, w.unit), false
		for _, who := range measured {
			cell, ok := r.cell(w, who)
			line += " " + cell + " |"
			any = any || ok
		}
		if any {
			b.WriteString(line + "\n")
		}
	}
}

// cell is a figure and its ratio to ext4's, or else to the volume's.
func (r *volumeResults) cell(w row, who string) (string, bool) {
	got, ok := r.median(w.figure, who)
	if !ok {
		return "–", false
	}
	text := fmt.Sprintf("%.*f", w.digits, got)
	for _, base := range []string{plainName, volumeName} {
		if other, ok := r.median(w.figure, base); ok {
			if base != who {
				text += fmt.Sprintf(" (%.2f)", w.speed(got, other))
			}
			break
		}
	}
	return text, true
}

// writeAll writes every series with its extremes.
func (r *volumeResults) writeAll(b *bytes.Buffer) {
	b.WriteString("\n## All figures of volumes\n\n| figure | contender | unit | median | least | most | times |\n| --- | --- | --- | ---: | ---: | ---: | ---: |\n")
	for _, g := range groups() {
		for _, w := range rows() {
			for _, who := range g.contenders {
				all := r.figures[series{w.figure, who}]
				if w.group != g.name || len(all) == 0 {
					continue
				}
				fmt.Fprintf(b, "| %s | %s | %s | %.*f | %.*f | %.*f | %d |\n", w.figure, who, w.unit,
					w.digits, middle(all), w.digits, slices.Min(all), w.digits, slices.Max(all), len(all))
			}
		}
	}
}

// middle is the median of numbers; 0 of none.
func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// thousands is a number with its thousands marked.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
