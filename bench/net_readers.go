package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/volary/volary/namespace"
)

// readFresh has a new host of volary read the file from those that have it, whose daemons run meanwhile.
func readFresh(read func(ctx context.Context, s *sources, h *host, pids []int, check bool) (spent, error)) func(context.Context, *networkPlan, *sources, reader, bool) (spent, error) {
	return func(ctx context.Context, p *networkPlan, s *sources, r reader, check bool) (_ spent, err error) {
		from := s.have[:r.peers]
		var pids []int
		for _, h := range from {
			if err := h.start(ctx); err != nil {
				return spent{}, err
			}
			defer func() { err = errors.Join(err, h.stop()) }()
			if err := h.untilConnected(ctx, 0); err != nil {
				return spent{}, err
			}
			pids = append(pids, h.daemon.cmd.Process.Pid)
		}
		h, err := p.member(ctx, s.dir, "reads", from...)
		if err != nil {
			return spent{}, err
		}
		defer func() { err = errors.Join(err, h.close(), removeAll(h.home)) }()
		return read(ctx, s, h, append(pids, h.daemon.cmd.Process.Pid), check)
	}
}

func readCat(ctx context.Context, s *sources, h *host, pids []int, check bool) (spent, error) {
	took, err := spendRunning(ctx, pids, h.env, h.bin, "cat", s.root+"/"+bigName)
	if err != nil || !check {
		return took, err
	}
	out, err := quietly(command(ctx, append(h.env, "BIN="+h.bin, "FILE="+s.root+"/"+bigName), "sh", "-c", `"$BIN" cat "$FILE" | sha256sum`))
	if err == nil && !strings.HasPrefix(out, s.sum) {
		err = errors.New("volary cat printed something else")
	}
	return took, err
}

func readVolume(ctx context.Context, s *sources, h *host, pids []int, check bool) (spent, error) {
	// Those that have the file know of the volumes of earlier readers.
	s.volumes++
	volume := fmt.Sprint("read-", s.volumes)
	if err := h.create(ctx, volume, s.root); err != nil {
		return spent{}, err
	}
	dir, err := h.mount(ctx, volume)
	if err != nil {
		return spent{}, err
	}
	file := filepath.Join(dir, bigName)
	took, err := spendRunning(ctx, pids, os.Environ(), "dd", "if="+file, "of="+os.DevNull, "bs=1M", "status=none")
	if err == nil && check {
		err = s.same(ctx, file)
	}
	return took, err
}

func readHydrate(ctx context.Context, s *sources, h *host, pids []int, check bool) (spent, error) {
	took, err := spendRunning(ctx, pids, h.env, h.bin, "hydrate", s.root)
	if err == nil && check {
		_, err = h.run(ctx, "verify", s.root)
	}
	return took, err
}

func readRestore(ctx context.Context, s *sources, h *host, pids []int, check bool) (_ spent, err error) {
	dir := filepath.Join(s.dir, "restored")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	took, err := spendRunning(ctx, pids, h.env, h.bin, "restore", s.root, dir)
	if err == nil && check {
		err = s.same(ctx, filepath.Join(dir, bigName))
	}
	return took, err
}

// newKubo makes a repository, and starts its daemon, in a swarm with a key.
func (p *networkPlan) newKubo(ctx context.Context, s *sources, name string) (*ipfs, error) {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	i, err := initIPFS(ctx, p.meter, p.tools.ipfs, dir)
	if err != nil {
		return nil, err
	}
	key := namespace.SwarmKey{1}
	return i, os.WriteFile(filepath.Join(i.repo, "swarm.key"), key.File(), 0o600)
}

// readIPFS has a new Kubo daemon get the file from the one that has it.
func readIPFS(ctx context.Context, p *networkPlan, s *sources, _ reader, check bool) (_ spent, err error) {
	to, err := p.newKubo(ctx, s, "kubo-reads")
	if err != nil {
		return spent{}, err
	}
	defer func() { err = errors.Join(err, removeAll(filepath.Dir(to.repo))) }()
	var pids []int
	for _, i := range []*ipfs{s.kubo, to} {
		if i.daemon, err = startServer(command(ctx, i.env, i.bin, "daemon"), "Daemon is ready"); err != nil {
			return spent{}, err
		}
		defer func() { err = errors.Join(err, i.Close()) }()
		pids = append(pids, i.daemon.cmd.Process.Pid)
	}
	at, err := quietly(command(ctx, s.kubo.env, s.kubo.bin, "id", "-f", "<addrs>"))
	if err != nil {
		return spent{}, err
	}
	first, _, _ := strings.Cut(at, "\n")
	if _, err := quietly(command(ctx, to.env, to.bin, "swarm", "connect", first)); err != nil {
		return spent{}, fmt.Errorf("connect to %q: %w", first, err)
	}
	out := filepath.Join(s.dir, "got")
	defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	took, err := spendRunning(ctx, pids, to.env, to.bin, "get", "--progress=false", "-o", out, s.ipfs)
	if err == nil && check {
		err = s.same(ctx, out)
	}
	return took, err
}
