package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// A step is one measured operation.
type step string

const (
	firstSnapshot   step = "first snapshot"
	secondSnapshot  step = "unchanged second"
	changedSnapshot step = "after 1 % change"
	fullRestore     step = "restore"
	singleFile      step = "single file"
)

var steps = [...]step{firstSnapshot, secondSnapshot, changedSnapshot, fullRestore, singleFile}

// key names a series of measurements.
type key struct {
	input, contender string
	step             step
}

// results are all measurements, one entry of a slice for each round.
type results struct {
	contenders []contender
	inputs     []input
	usages     map[key][]usage
	spaces     map[key][]int64 // bytes on disk after the step, caches included
	limits     map[string][]usage
}

// plan is what a run measures.
type plan struct {
	work       string
	meter      *meter
	sizes      sizes
	rounds     int
	match      *regexp.Regexp
	contenders []contender
}

// inputAge is how old an input is at least when it is measured. A program that remembers files by their stamps may
// not trust one that was changed a moment ago, and reads it once more the next time (volary: three seconds); what is
// backed up has seldom been written at that moment, and without this only the first contender would meet it.
const inputAge = 5 * time.Second

// wants says whether an input is asked for, wantsAny whether any is.
func (p *plan) wants(in input) bool {
	return slices.ContainsFunc(p.contenders, func(c contender) bool { return p.match.MatchString(in.name + "/" + c.name) })
}

func (p *plan) wantsAny() bool { return slices.ContainsFunc(inputs(p.sizes), p.wants) }

// run measures everything, contenders in turns: in each round another one is the first, so that what changes on
// the machine meanwhile falls on all of them.
func (p *plan) run(ctx context.Context) (results, error) {
	res := results{
		contenders: p.contenders,
		usages:     map[key][]usage{},
		spaces:     map[key][]int64{},
		limits:     map[string][]usage{},
	}
	for _, in := range inputs(p.sizes) {
		if !p.wants(in) {
			continue
		}
		in.dir = filepath.Join(p.work, in.name)
		progress("make input (%s): %s", in.name, in.title)
		if err := in.make(ctx, in.dir); err != nil {
			return res, fmt.Errorf("make input %s: %w", in.name, err)
		}
		time.Sleep(inputAge)
		res.inputs = append(res.inputs, in)
		for round := range p.rounds {
			if in.limits {
				if err := p.measureLimits(ctx, in, &res); err != nil {
					return res, fmt.Errorf("measure the machine: %w", err)
				}
			}
			for i := range p.contenders {
				c := p.contenders[(i+round)%len(p.contenders)]
				if !p.match.MatchString(in.name + "/" + c.name) {
					continue
				}
				if err := p.measure(ctx, in, c, round, &res); err != nil {
					return res, fmt.Errorf("(%s), %s, round %d: %w", in.name, c.name, round+1, err)
				}
			}
		}
		if err := p.discard(in, in.dir); err != nil {
			return res, fmt.Errorf("remove input %s: %w", in.name, err)
		}
	}
	return res, nil
}

// measure takes one contender through all steps on one input. Making and removing repositories and targets,
// and reading the input once so that it is in memory for everybody, is not measured.
func (p *plan) measure(ctx context.Context, in input, c contender, round int, res *results) (err error) {
	dir := filepath.Join(p.work, "repository")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.discard(in, dir)) }()
	if err := warm(in.dir); err != nil {
		return err
	}
	r, err := c.open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()

	record := func(s step, u usage, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		k := key{in.name, c.name, s}
		space, err := spaceOf(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		res.usages[k] = append(res.usages[k], u)
		res.spaces[k] = append(res.spaces[k], space)
		progress("round %d  (%s) %-12s %-17s %7.2f s  %5.0f MiB", round+1, in.name, c.name, s, u.Durable.Seconds(), mib(u.Memory))
		return nil
	}

	id, u, err := r.Snapshot(ctx, in.dir)
	if err := record(firstSnapshot, u, err); err != nil {
		return err
	}
	again, u, err := r.Snapshot(ctx, in.dir)
	if err := record(secondSnapshot, u, err); err != nil {
		return err
	}
	if in.change != nil {
		undo, changeErr := in.change(in.dir, filepath.Join(p.work, "originals"))
		if changeErr != nil {
			return fmt.Errorf("change the input: %w", changeErr)
		}
		defer func() {
			err = errors.Join(err, undo())
			settle()
		}()
		settle()
		id, u, err = r.Snapshot(ctx, in.dir)
		if err := record(changedSnapshot, u, err); err != nil {
			return err
		}
		if id == again {
			return fmt.Errorf("snapshots of different trees have one name, %s", id)
		}
	}
	return p.measureRestores(ctx, in, c, r, id, round, record)
}

// discard takes away what a measurement has left. What is one large file is removed. What is many files is put
// aside until the run is over: for minutes after a deletion ext4 passes over the inodes one by one whenever a
// file is made, and whoever comes next would pay for it.
func (p *plan) discard(in input, dir string) error {
	if in.limits {
		return removeAll(dir)
	}
	aside, err := os.MkdirTemp(p.work, "discarded-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(aside, "x")); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// measureRestores restores the newest snapshot, and in the first round checks that it did.
func (p *plan) measureRestores(ctx context.Context, in input, c contender, r repository, id string, round int, record func(step, usage, error) error) (err error) {
	dst := filepath.Join(p.work, "restored")
	defer func() { err = errors.Join(err, p.discard(in, dst)) }()
	u, err := r.Restore(ctx, id, in.dir, dst)
	if err := record(fullRestore, u, err); err != nil {
		return err
	}
	if round == 0 {
		if err := same(in.dir, dst, c.posix); err != nil {
			return fmt.Errorf("what was restored is wrong: %w", err)
		}
	}
	if err := p.discard(in, dst); err != nil || in.change == nil {
		return err
	}

	path, err := middleFile(in.dir)
	if err != nil {
		return err
	}
	u, err = r.File(ctx, id, in.dir, path, dst)
	if err := record(singleFile, u, err); err != nil {
		return err
	}
	got := dst
	if info, err := os.Stat(dst); err == nil && info.IsDir() {
		got = filepath.Join(dst, filepath.Base(path))
	}
	if err := sameContent(filepath.Join(in.dir, path), got); err != nil {
		return fmt.Errorf("the single file is wrong: %w", err)
	}
	return nil
}
