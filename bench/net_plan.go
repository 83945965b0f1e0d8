package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
)

// networkSizes are those of the third part.
type networkSizes struct {
	file    int64 // bytes of the file that is read
	commits int   // in a round
}

var (
	fullNetwork  = networkSizes{file: 1 << 30, commits: 100}
	quickNetwork = networkSizes{file: 64 << 20, commits: 5}
)

// networkPlan is what the third part of a run measures: hosts of a namespace, beside what else carries bytes from one
// place to another. All is on this machine, over loopback.
type networkPlan struct {
	work   string
	meter  *meter
	tools  tools
	sizes  networkSizes
	rounds int
	match  *regexp.Regexp
	res    networkResults
}

// A networkGroup is measured in one place, by one method.
type networkGroup struct {
	table
	run func(p *networkPlan, ctx context.Context, g networkGroup) error
}

func networkGroups() []networkGroup {
	return []networkGroup{
		{table{"spread", "Heads, from acknowledged to known", []string{manyHostsName, daemonsName}}, (*networkPlan).measureSpread},
		{table{"join", "A host with nothing joins", []string{joinerName}}, (*networkPlan).measureJoin},
		{table{"read", "Cold reads of one file", readerNames()}, (*networkPlan).measureRead},
	}
}

func (p *networkPlan) wants(g networkGroup, contenders ...string) bool {
	return slices.ContainsFunc(contenders, func(c string) bool { return p.match.MatchString("n/" + g.group + "/" + c) })
}

// wantsAny says whether any group is asked for.
func (p *networkPlan) wantsAny() bool {
	return slices.ContainsFunc(networkGroups(), func(g networkGroup) bool { return p.wants(g, g.contenders...) })
}

// run measures all groups that are asked for. With an error it returns what was measured all the same.
func (p *networkPlan) run(ctx context.Context) (_ *networkResults, failed error) {
	p.res = networkResults{sizes: p.sizes, findings: newFindings()}
	wanted := slices.DeleteFunc(networkGroups(), func(g networkGroup) bool { return !p.wants(g, g.contenders...) })
	if len(wanted) == 0 {
		return nil, nil
	}
	for _, g := range wanted {
		progress("network: %s", g.title)
		if err := g.run(p, ctx, g); err != nil {
			err = fmt.Errorf("network, %s: %w", g.group, err)
			p.res.leaveOut("what is missing below", err)
			failed = errors.Join(failed, err, detachBelow(p.work))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return &p.res, failed
}

// inTurns calls do for those contenders of a group that are asked for, each time beginning with another one.
func (p *networkPlan) inTurns(g networkGroup, round int, do func(who string) error) error {
	for i := range g.contenders {
		who := g.contenders[(i+round)%len(g.contenders)]
		if !p.wants(g, who) {
			continue
		}
		if err := do(who); err != nil {
			return fmt.Errorf("%s, round %d: %w", who, round+1, err)
		}
	}
	return nil
}

// member makes a host of the namespace of those that are given, or of a new one, and starts its daemon. It listens on
// loopback.
func (p *networkPlan) member(ctx context.Context, dir, name string, known ...*host) (*host, error) {
	args := []string{"--listen", "127.0.0.1:0"}
	for i, other := range known {
		st, err := other.network(ctx)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			token, err := other.run(ctx, "token")
			if err != nil {
				return nil, err
			}
			args = append(args, "--join", token)
		}
		args = append(args, "--peer", st.Addrs[0])
	}
	h, err := newHost(ctx, p.tools.volary, filepath.Join(dir, name), args...)
	if err != nil {
		return nil, err
	}
	if err := h.untilConnected(ctx, len(known)); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}
