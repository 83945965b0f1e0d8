package main

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/docker/dockertest"
)

// twoHosts are one that has a dataset and one that reads it.
type twoHosts struct {
	*stage
	plan       *dockerPlan
	data       dataset
	cid, plain string
	has, reads *dockertest.Engine

	shared string // what the Kubo daemon that has it calls it; empty while there is none
	sftp   bool   // rclone serves it
}

// toRead is a container that prints a file.
type toRead struct {
	before  string // a line of sh whose time counts as well
	options []string
	file    string
	sum     string
	end     func() // takes away what was made; nil if nothing was
}

// script prints in nanoseconds when it began and when the first byte came, and the SHA-256 of all that came.
const script = `set -euo pipefail
date +%%s%%N
%s
docker run --rm --network none %s %s cat %s | { dd bs=1 count=1 status=none >byte; date +%%s%%N; cat byte - | sha256sum; }
`

// measureFirstByte has containers read a file of a dataset that another host has.
func (p *dockerPlan) measureFirstByte(s *stage, g dockerGroup) {
	all := dockertest.Together(s, p.tools.volary, "has", "reads")
	h := &twoHosts{stage: s, plan: p, data: p.sizes.large, has: all[0], reads: all[1]}
	h.cid, h.plain = h.data.store(s, h.has)
	h.reads.Box("true") // an engine's first container of all takes longer
	h.reads.Stop()
	h.reads.Do("cp", "-a", h.reads.Home, h.reads.Home+"-new")
	h.reads.Start()
	make := map[string]func(round int) toRead{localName: h.empty, volumeName: h.volume, rcloneName: h.rclone, getName: h.get}
	p.eachTurn(g, func(who string, round int) {
		r := make[who](round)
		if r.file == "" {
			return
		}
		unix.Sync() // what was written, and taken away, before
		var began, byteAt int64
		var sum string
		var err error
		took, err := timed(func() error {
			out, err := h.reads.Try(s.ctx, "bash", "-c", fmt.Sprintf(script, r.before, strings.Join(r.options, " "), dockertest.Image, r.file))
			if words := strings.Fields(out); err == nil && len(words) > 2 {
				began, _ = strconv.ParseInt(words[0], 10, 64)
				byteAt, _ = strconv.ParseInt(words[1], 10, 64)
				sum = words[2]
			}
			return err
		})
		if err == nil && sum != r.sum {
			err = fmt.Errorf("%s: the container printed another file", who)
		}
		if r.end != nil {
			r.end()
		}
		s.must(err)
		p.res.record(containerByte, who, float64(byteAt-began)/1e6)
		p.res.record(containerAll, who, 1000*took)
	})
}

// file is the file that is read in a round, of the first directory, which all contenders have.
func (h *twoHosts) file(round int) int { return 7919 * (round + 1) % h.data.files }

// empty is the local driver's, of which nothing can be read.
func (h *twoHosts) empty(round int) toRead {
	name := fmt.Sprint("empty-", round)
	const file = "/etc/passwd"
	sum, _, _ := strings.Cut(h.reads.Box("sha256sum "+file), " ")
	return toRead{options: []string{"-v", name + ":/v"}, file: file, sum: sum, end: func() { h.reads.Docker("volume", "rm", name) }}
}

// volume is of a host that has nothing of the dataset, and has not mounted anything yet.
func (h *twoHosts) volume(round int) toRead {
	e := h.reads
	e.Stop()
	e.Sh(fmt.Sprintf("rm -rf %s && cp -a %s-new %s", e.Home, e.Home, e.Home))
	e.Start()
	e.UntilVolary("the other host is connected", func(out string) bool { return strings.Contains(out, "connected") }, "peers")
	name := fmt.Sprint("set-", round)
	return toRead{
		options: mountOf(dockertest.Driver, name, "from="+h.cid),
		file:    "/v/" + h.data.path(h.file(round)), sum: h.data.sum(h.file(round)),
		end: func() { e.Docker("volume", "rm", name) },
	}
}

// mountOf are options that have a container mount a volume that is made by a driver.
func mountOf(driver, name string, options ...string) []string {
	mount := fmt.Sprintf("type=volume,src=%s,dst=/v,volume-driver=%s", name, driver)
	for _, o := range options {
		mount += ",volume-opt=" + o
	}
	return []string{"--mount", mount}
}
