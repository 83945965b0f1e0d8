package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// peer is a contender's repository, with what it is shown of.
type peer struct {
	repository
	ids map[string]string // of snapshots, by tree
}

// openPeer opens a repository of a peer that mounts. Close it when done.
func (p *volumePlan) openPeer(ctx context.Context, g group, name string) (*peer, error) {
	dir := filepath.Join(p.work, g.name+"-"+filepath.Base(name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var r repository
	var err error
	switch name {
	case ipfsMountName:
		r, err = startIPFS(ctx, p.meter, p.tools.ipfs, dir)
	case resticName:
		r, err = openRestic(ctx, p.meter, p.tools.restic, dir)
	case kopiaName:
		r, err = openKopia(ctx, p.meter, p.tools.kopia, dir)
	default:
		err = fmt.Errorf("no peer is named %s", name)
	}
	if err != nil {
		return nil, err
	}
	return &peer{repository: r, ids: map[string]string{}}, nil
}

// measureServed mounts the same snapshots by each contender, every time anew, and walks and reads them. What the
// contenders keep their snapshots in is in the page cache. Twice is enough: some need half a minute to read the file.
func (p *volumePlan) measureServed(ctx context.Context, g group) (err error) {
	peers := map[string]*peer{}
	defer func() {
		for _, r := range peers {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, name := range []string{servedTree, oneTree} {
		t, err := p.snapshot(ctx, name)
		if err != nil {
			return err
		}
		for _, who := range g.contenders[1:] {
			if !p.wants(g, who) {
				continue
			}
			if peers[who] == nil {
				r, err := p.openPeer(ctx, g, who)
				if err != nil {
					return fmt.Errorf("%s: %w", who, err)
				}
				peers[who] = r
			}
			if peers[who].ids[name], _, err = peers[who].Snapshot(ctx, t.dir); err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
		}
	}
	failed := map[string]bool{}
	return p.inTurns(g, min(p.rounds, 2), func(who string, round int) error {
		if failed[who] {
			return nil
		}
		err := p.measureServer(ctx, who, peers[who], round)
		if err != nil && who != volumeName && ctx.Err() == nil {
			failed[who] = true
			p.res.leaveOut("further mounts of "+who, err)
			return nil
		}
		return err
	})
}

// measureServer takes one contender through one round.
func (p *volumePlan) measureServer(ctx context.Context, who string, r *peer, round int) error {
	err := p.whileServed(ctx, who, r, servedTree, serveFiles, round, func(dir string) error {
		return p.timeEach(who, coldServed, dir, func() error {
			n, err := statWalk(dir)
			if want := p.trees[servedTree].entries; err == nil && n != want {
				err = fmt.Errorf("%s has %d entries, not %d", dir, n, want)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	err = p.whileServed(ctx, who, r, servedTree, "", round, func(dir string) error {
		return p.timeEach(who, coldNames, dir, func() error { return statNames(dir, p.sizes.served, p.sizes.files) })
	})
	if err != nil {
		return err
	}
	return p.whileServed(ctx, who, r, oneTree, serveOne, round, func(dir string) error {
		file := filepath.Join(dir, "big")
		took, err := timed(func() error { return firstByte(file) })
		if err != nil {
			return err
		}
		p.res.record(byteServed, who, 1000*took)
		for _, f := range []figure{coldRead, againRead} {
			if took, err = timed(func() error { return readAll(file, p.sizes.one) }); err != nil {
				return err
			}
			p.res.record(f, who, float64(p.sizes.one)/1e9/took)
		}
		if round > 0 {
			return nil
		}
		return sameContent(filepath.Join(p.trees[oneTree].dir, "big"), file)
	})
}

// timeEach records how long something with each of the served files takes.
func (p *volumePlan) timeEach(who string, f figure, dir string, do func() error) error {
	took, err := timed(do)
	if err != nil {
		return err
	}
	p.res.record(f, who, 1e6*took/float64(p.sizes.served*p.sizes.files))
	return nil
}

// whileServed mounts the snapshot of a tree, records how long that took if f is set, and unmounts it.
func (p *volumePlan) whileServed(ctx context.Context, who string, r *peer, name string, f figure, round int, do func(dir string) error) (err error) {
	t := p.trees[name]
	var m mounted
	took, err := timed(func() error {
		if who == volumeName {
			m, err = p.mountVolume(ctx, t)
			return err
		}
		at := filepath.Join(p.work, "mount")
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		m, err = r.repository.(mounter).Mount(ctx, r.ids[name], t.dir, at)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	if f != "" {
		p.res.record(f, who, 1000*took)
	}
	return do(m.dir)
}

// mountVolume makes a volume of a snapshot and mounts it; at its end the volume is removed.
func (p *volumePlan) mountVolume(ctx context.Context, t *tree) (mounted, error) {
	p.made++
	name := fmt.Sprintf("served-%d", p.made)
	if err := p.host.create(ctx, name, t.root); err != nil {
		return mounted{}, err
	}
	dir, err := p.host.mount(ctx, name)
	return mounted{dir: dir, end: func() error {
		if err := p.host.umount(ctx, name); err != nil {
			return err
		}
		_, err := p.host.run(ctx, "volume", "rm", name)
		return err
	}}, err
}

// measureCommits changes one small file and commits, in a volume of many files and in one of a single directory
// as large as the changed one.
func (p *volumePlan) measureCommits(ctx context.Context, g group) error {
	changed := map[string]string{
		manyTree:   filepath.Join(partDir, dirName(p.sizes.part/2), fileName(p.sizes.files/2)),
		singleTree: filepath.Join(dirName(0), fileName(p.sizes.files/2)),
	}
	dirs := map[string]string{}
	for _, name := range []string{manyTree, singleTree} {
		var err error
		if dirs[name], err = p.volumeOf(ctx, g.name+"-"+name, name); err != nil {
			return err
		}
	}
	if _, err := statWalk(dirs[manyTree]); err != nil {
		return err
	}
	for n := range p.rounds * p.sizes.commits {
		if p.wants(g, plainName) {
			took, err := timed(func() error { return syncNothing(p.work, n) })
			if err != nil {
				return err
			}
			p.res.record(syncFile, plainName, 1000*took)
		}
		for _, c := range []committed{
			{g.name + "-" + manyTree, dirs[manyTree], changed[manyTree], commitMany, commitManyNone, commitManySpace},
			{g.name + "-" + singleTree, dirs[singleTree], changed[singleTree], commitSingle, commitSingleNone, commitSingleSpace},
		} {
			if err := p.measureCommit(ctx, c, n); err != nil {
				return fmt.Errorf("%s: %w", c.volume, err)
			}
		}
	}
	for _, who := range []string{resticName, kopiaName} {
		if !p.wants(g, who) {
			continue
		}
		if err := p.measurePeerCommit(ctx, g, who, filepath.Join(dirs[manyTree], partDir), filepath.Join(dirs[manyTree], changed[manyTree])); err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
	}
	return p.host.umountAll(ctx)
}

// committed is a mounted volume, the file in it that is changed, and what is measured.
type committed struct {
	volume, dir, path       string
	changed, nothing, space figure
}

func (p *volumePlan) measureCommit(ctx context.Context, c committed, n int) error {
	before, err := p.host.stored(ctx)
	if err != nil {
		return err
	}
	if err := change(filepath.Join(c.dir, c.path), n); err != nil {
		return err
	}
	var root, again string
	took, err := timed(func() (err error) { root, err = p.host.commit(ctx, c.volume); return err })
	if err != nil {
		return err
	}
	p.res.record(c.changed, volumeName, 1000*took)
	after, err := p.host.stored(ctx)
	if err != nil {
		return err
	}
	p.res.record(c.space, volumeName, float64(after-before)/1024)
	if took, err = timed(func() (err error) { again, err = p.host.commit(ctx, c.volume); return err }); err != nil {
		return err
	}
	if again != root {
		return fmt.Errorf("a commit without a change made %s of %s", again, root)
	}
	p.res.record(c.nothing, volumeName, 1000*took)

	want, err := os.ReadFile(filepath.Join(c.dir, c.path))
	if err != nil {
		return err
	}
	got, err := p.host.run(ctx, "cat", root+"/"+c.path)
	if err == nil && got+"\n" != string(want) {
		err = fmt.Errorf("what was committed of %s is %q, not %q", c.path, got, want)
	}
	return err
}

// measurePeerCommit has a peer make the second snapshot of a part of the mounted volume.
func (p *volumePlan) measurePeerCommit(ctx context.Context, g group, who, src, path string) (err error) {
	r, err := p.openPeer(ctx, g, who)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	progress("%s: first snapshot of a part", who)
	if _, _, err := r.Snapshot(ctx, src); err != nil {
		return err
	}
	for n := range p.rounds {
		settle()
		if err := change(path, n); err != nil {
			return err
		}
		_, u, err := r.Snapshot(ctx, src)
		if err != nil {
			return err
		}
		p.res.record(commitPart, who, 1000*u.Plain.Seconds())
	}
	return nil
}
