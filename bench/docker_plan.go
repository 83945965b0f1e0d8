package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
)

// dockerSizes are those of the fourth part.
type dockerSizes struct {
	large          dataset // that another host has
	small          dataset // that many containers read
	containers     int
	scale, seconds int // of pgbench
}

const dockerFile = (10 << 30) / 100_000 // bytes

var (
	fullDocker = dockerSizes{
		large:      dataset{parts: 10, dirs: 10, files: 1000, size: dockerFile},
		small:      dataset{parts: 1, dirs: 10, files: 100, size: dockerFile},
		containers: 100,
		scale:      20, seconds: 5,
	}
	quickDocker = dockerSizes{
		large:      dataset{parts: 2, dirs: 5, files: 20, size: dockerFile},
		small:      dataset{parts: 1, dirs: 2, files: 10, size: dockerFile},
		containers: 10,
		scale:      1, seconds: 2,
	}
)

// space is about how much of the disk is taken at a time: the dataset, one part of it in several places, and databases.
func (s dockerSizes) space() int64 {
	return s.large.bytes() + 4*s.large.bytes()/int64(s.large.parts) + int64(s.scale)<<27
}

// dockerPlan is what the fourth part of a run measures: volumes of containers. All is on this machine.
type dockerPlan struct {
	work   string
	meter  *meter
	tools  tools
	sizes  dockerSizes
	rounds int
	match  *regexp.Regexp
	res    dockerResults
}

// A dockerGroup is measured on one stage, by one method.
type dockerGroup struct {
	table
	run func(p *dockerPlan, s *stage, g dockerGroup)
}

func dockerGroups() []dockerGroup {
	return []dockerGroup{
		{table{"first-byte", "A container of a dataset", []string{localName, volumeName, rcloneName, getName}}, (*dockerPlan).measureFirstByte},
		{table{"pgbench", "PostgreSQL in a container", []string{localName, volumeName, fullName}}, (*dockerPlan).measureDatabase},
		{table{"hundred", "Many containers of one dataset", []string{localName, volumeName}}, (*dockerPlan).measureHundred},
	}
}

func (p *dockerPlan) wants(g dockerGroup, contenders ...string) bool {
	return slices.ContainsFunc(contenders, func(c string) bool { return p.match.MatchString("d/" + g.group + "/" + c) })
}

// wanted are the groups that are asked for.
func (p *dockerPlan) wanted() []dockerGroup {
	return slices.DeleteFunc(dockerGroups(), func(g dockerGroup) bool { return !p.wants(g, g.contenders...) })
}

// run measures all groups that are asked for. With an error it returns what was measured all the same.
func (p *dockerPlan) run(ctx context.Context) (_ *dockerResults, failed error) {
	p.res = dockerResults{sizes: p.sizes, findings: newFindings()}
	wanted := p.wanted()
	if len(wanted) == 0 {
		return nil, nil
	}
	if why := cannotRunEngines(); why != "" {
		p.res.leaveOut("everything", errors.New(why))
		return &p.res, nil
	}
	for _, g := range wanted {
		progress("containers: %s", g.title)
		if err := onStage(ctx, filepath.Join(p.work, "d"), func(s *stage) { g.run(p, s, g) }); err != nil {
			err = fmt.Errorf("containers, %s: %w", g.group, err)
			p.res.leaveOut("what is missing below", err)
			failed = errors.Join(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return &p.res, failed
}

// eachTurn calls do for those contenders of a group that are asked for, in each round beginning with another one.
func (p *dockerPlan) eachTurn(g dockerGroup, do func(who string, round int)) {
	for round := range p.rounds {
		for _, who := range rotated(g.contenders, round) {
			if p.wants(g, who) {
				do(who, round)
			}
		}
	}
}

// cannotRunEngines says why no engine runs here; empty if it can.
func cannotRunEngines() string {
	if why := cannotMount(); why != "" {
		return why
	}
	for _, name := range []string{"dockerd", "docker", "busybox", "ip"} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error() + " (make deps installs it)"
		}
	}
	return ""
}
