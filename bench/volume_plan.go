package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
)

// volumePlan is what the second part of a run measures: volumes, beside a directory of the same file system and
// what peers show by FUSE.
type volumePlan struct {
	work   string
	meter  *meter
	tools  tools
	sizes  volumeSizes
	rounds int
	match  *regexp.Regexp

	host   *host      // nil until first needed
	remote *clustered // as well
	trees  map[string]*tree
	made   int // volumes that were named by a number
	undo   []func() error
	res    volumeResults
}

// A group is measured in one place, by one method.
type group struct {
	name, title string
	run         func(p *volumePlan, ctx context.Context, g group) error
	contenders  []string
}

// groups are all, in the order of measurement. Those that leave many files or a large file behind come last.
func groups() []group {
	pair := []string{volumeName, plainName}
	return []group{
		{"mount", "Mounts, each of a new volume", (*volumePlan).measureMounts, []string{volumeName}},
		{"served", "Snapshots mounted anew, beside peers' mounts", (*volumePlan).measureServed, []string{volumeName, ipfsMountName, resticName, kopiaName}},
		{"read", "Reads of one file, warm", (*volumePlan).measureReads, []string{volumeName, fullName, plainName}},
		{"walk", "Walks of many files", (*volumePlan).measureWalks, pair},
		{"commit", "Commits after a change of one small file", (*volumePlan).measureCommits, []string{volumeName, plainName, resticName, kopiaName}},
		{"cluster", "Commits of a small change, with a cluster of three peers and without", (*volumePlan).measureAcknowledged, []string{volumeName, clusterName}},
		{"pins", "Lists of many pins, on a host of the cluster", (*volumePlan).measurePins, []string{clusterName}},
		{"programs", "Programs", (*volumePlan).measurePrograms, pair},
		{"write", "Writes of new data, with fsync", (*volumePlan).measureWrites, pair},
	}
}

// wants says whether a group is asked for at all, or of a contender.
func (p *volumePlan) wants(g group, contenders ...string) bool {
	if len(contenders) == 0 {
		contenders = g.contenders
	}
	return slices.ContainsFunc(contenders, func(c string) bool { return p.match.MatchString("v/" + g.name + "/" + c) })
}

// wantsAny says whether any group is asked for.
func (p *volumePlan) wantsAny() bool {
	return slices.ContainsFunc(groups(), func(g group) bool { return p.wants(g) })
}

// run measures all groups that are asked for, and takes everything away again, mounts first. With an error it
// returns what was measured before.
func (p *volumePlan) run(ctx context.Context) (res *volumeResults, err error) {
	p.trees = map[string]*tree{}
	p.res = volumeResults{sizes: p.sizes, findings: newFindings()}
	wanted := slices.DeleteFunc(groups(), func(g group) bool { return !p.wants(g) })
	if len(wanted) == 0 {
		return nil, nil
	}
	if why := cannotMount(); why != "" {
		progress("volumes are left out: %s", why)
		p.res.without = append(p.res.without, "everything: "+why)
		return &p.res, nil
	}
	defer func() {
		for _, f := range slices.Backward(p.undo) {
			err = errors.Join(err, f())
		}
		err = errors.Join(err, detachBelow(p.work))
	}()
	for _, g := range wanted {
		progress("volumes: %s", g.title)
		if err := g.run(p, ctx, g); err != nil {
			err = fmt.Errorf("volumes, %s: %w", g.name, err)
			p.res.leaveOut("what is missing below", err)
			return &p.res, err
		}
	}
	return &p.res, nil
}

// cannotMount says why nothing can be mounted here; empty if it can.
func cannotMount() string {
	if os.Geteuid() != 0 {
		return "mounting needs root"
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return "there is no /dev/fuse"
	}
	for _, name := range []string{"mkfs.ext4", "mount"} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error() + " (make deps installs it)"
		}
	}
	return ""
}

// inTurns calls do for those contenders of a group that are asked for, so many times, each time beginning with
// another one.
func (p *volumePlan) inTurns(g group, times int, do func(who string, round int) error) error {
	for round := range times {
		for i := range g.contenders {
			who := g.contenders[(i+round)%len(g.contenders)]
			if !p.wants(g, who) {
				continue
			}
			if err := do(who, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", who, round+1, err)
			}
		}
	}
	return nil
}

// volary is the host of volumes, its daemon running.
func (p *volumePlan) volary(ctx context.Context) (*host, error) {
	if p.host != nil {
		return p.host, nil
	}
	h, err := newHost(ctx, p.tools.volary, filepath.Join(p.work, "volary"))
	if err != nil {
		return nil, err
	}
	p.undo = append(p.undo, h.close)
	p.host = h
	return h, nil
}

// volumeOf makes a volume of a tree's snapshot and mounts it.
func (p *volumePlan) volumeOf(ctx context.Context, name, treeName string) (dir string, err error) {
	t, err := p.snapshot(ctx, treeName)
	if err != nil {
		return "", err
	}
	if err := p.host.create(ctx, name, t.root); err != nil {
		return "", err
	}
	return p.host.mount(ctx, name)
}

// places are where the contenders of a pair do the same: a volume made of a tree's snapshot, or without a tree
// an empty one, and a directory beside it.
func (p *volumePlan) places(ctx context.Context, g group, treeName string) (map[string]string, error) {
	places := map[string]string{}
	h, err := p.volary(ctx)
	if err != nil {
		return nil, err
	}
	plain := filepath.Join(p.work, "plain-"+g.name)
	if treeName == "" {
		if err := h.create(ctx, g.name, ""); err != nil {
			return nil, err
		}
		if places[volumeName], err = h.mount(ctx, g.name); err != nil {
			return nil, err
		}
		places[plainName] = plain
		return places, os.Mkdir(plain, 0o755)
	}
	if places[volumeName], err = p.volumeOf(ctx, g.name, treeName); err != nil {
		return nil, err
	}
	places[plainName] = p.trees[treeName].dir
	return places, nil
}
