package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/cluster/clustertest"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot/store"
)

// enoughPeers is on how many of the cluster's peers a snapshot is to be.
const enoughPeers = 2

// clustered is a host with its blocks in the first Kubo daemon of a cluster, which replicates what it keeps.
type clustered struct {
	*host
	nodes []*clustertest.Node
}

// withCluster starts a cluster and a host of it when they are first needed.
func (p *volumePlan) withCluster(ctx context.Context) (*clustered, error) {
	if p.remote != nil {
		return p.remote, nil
	}
	progress("start a cluster of %d peers", clustertest.DefaultPeers)
	c, err := clustertest.Start(ctx, clustertest.Options{Dir: filepath.Join(p.work, "cluster")})
	if err != nil {
		return nil, err
	}
	p.undo = append(p.undo, c.Close)
	h, err := newHost(ctx, p.tools.volary, filepath.Join(p.work, "volary-cluster"), backends(c.Nodes[0])...)
	if err != nil {
		return nil, err
	}
	p.undo = append(p.undo, h.close)
	p.remote = &clustered{h, c.Nodes}
	return p.remote, nil
}

// backends are what init is told of a node.
func backends(n *clustertest.Node) []string {
	return []string{"--kubo", n.RPC(), "--cluster", n.REST(), "--replicas", fmt.Sprintf("%d-%d", enoughPeers, clustertest.DefaultPeers)}
}

// hostOf is the host that a contender is.
func (p *volumePlan) hostOf(ctx context.Context, who string) (*host, error) {
	if who != clusterName {
		return p.volary(ctx)
	}
	r, err := p.withCluster(ctx)
	if err != nil {
		return nil, err
	}
	return r.host, nil
}

// measureAcknowledged changes one small file and commits, with a cluster and without, and looks in the cluster's Kubo
// daemons for the pin. A volume's commits are more than a second apart: those within one become one pin.
func (p *volumePlan) measureAcknowledged(ctx context.Context, g group) error {
	dirs := map[string]string{}
	for _, who := range g.contenders {
		if !p.wants(g, who) {
			continue
		}
		h, err := p.hostOf(ctx, who)
		if err != nil {
			return err
		}
		if dirs[who], err = p.volumeOn(ctx, h, g.name); err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
	}
	err := p.inTurns(g, p.rounds*p.sizes.commits, func(who string, n int) error {
		h, err := p.hostOf(ctx, who)
		if err != nil {
			return err
		}
		settle()
		if err := change(filepath.Join(dirs[who], fileName(p.sizes.few/2)), n); err != nil {
			return err
		}
		var root string
		start := time.Now()
		took, err := timed(func() (err error) { root, err = h.commit(ctx, g.name); return err })
		if err != nil {
			return err
		}
		p.res.record(acknowledged, who, 1000*took)
		if who != clusterName {
			return nil
		}
		if err := onEnoughPeers(ctx, p.remote.nodes, root); err != nil {
			return err
		}
		p.res.record(replicated, who, 1000*time.Since(start).Seconds())
		return nil
	})
	for who := range dirs {
		h, hostErr := p.hostOf(ctx, who)
		if err = errors.Join(err, hostErr); hostErr == nil {
			err = errors.Join(err, h.umount(ctx, g.name))
		}
	}
	return err
}

// volumeOn makes a volume of few files on a host and mounts it.
func (p *volumePlan) volumeOn(ctx context.Context, h *host, name string) (dir string, err error) {
	t, err := p.tree(ctx, fewTree)
	if err != nil {
		return "", err
	}
	root, err := h.run(ctx, "snapshot", t.dir)
	if err != nil {
		return "", err
	}
	if err := h.create(ctx, name, root); err != nil {
		return "", err
	}
	return h.mount(ctx, name)
}

// onEnoughPeers waits until enough Kubo daemons have a pin of a root.
func onEnoughPeers(ctx context.Context, nodes []*clustertest.Node, root string) error {
	const patience, pause = time.Minute, 5 * time.Millisecond
	for until := time.Now().Add(patience); ; {
		have := 0
		for _, n := range nodes {
			pinned, err := n.Pins(ctx, root)
			if err != nil {
				return err
			}
			if pinned {
				have++
			}
		}
		if have >= enoughPeers {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%s is on %d peers after %s", root, have, patience)
		}
		time.Sleep(pause)
	}
}

// measurePins lists many pins: those that a host keeps, and, from a host that is new, the volumes that the cluster's
// pins tell of.
func (p *volumePlan) measurePins(ctx context.Context, g group) error {
	r, err := p.withCluster(ctx)
	if err != nil {
		return err
	}
	token, err := p.fill(ctx, r, g.name)
	if err != nil {
		return err
	}
	home := filepath.Join(p.work, "volary-new")
	env := environment(p.work, "VOLARY_HOME="+home)
	if _, err := quietly(command(ctx, env, r.bin, append([]string{"init", "--join", token}, backends(r.nodes[0])...)...)); err != nil {
		return err
	}
	for range 2*p.rounds + 1 {
		if err := p.listing(ctx, r.env, listPins, listPinsMemory, p.sizes.pins, "pin", "ls"); err != nil {
			return err
		}
		// It waits for the cluster for a bounded time only.
		if err := p.listing(ctx, env, learnPins, learnPinsMemory, 1, "volume", "ls", "--quiet"); err != nil {
			p.res.leaveOut(string(learnPins), err)
		}
	}
	return nil
}

// listing records what a command that prints so many lines, or some more, takes.
func (p *volumePlan) listing(ctx context.Context, env []string, took, memory figure, lines int, args ...string) error {
	out, u, err := p.meter.Run(command(ctx, env, p.tools.volary, args...))
	if err != nil {
		return err
	}
	if got := len(strings.Fields(out)); got < lines {
		return fmt.Errorf("volary %s printed %d words, not %d lines: %s", strings.Join(args, " "), got, lines, tail(out))
	}
	p.res.record(took, clusterName, u.Plain.Seconds())
	p.res.record(memory, clusterName, mib(u.Memory))
	return nil
}

// fill stops a host's daemon, after it has told the cluster of a volume, and gives the host and the cluster many pins. It
// returns the namespace's token.
func (p *volumePlan) fill(ctx context.Context, r *clustered, volume string) (string, error) {
	if _, err := p.volumeOn(ctx, r.host, volume); err != nil {
		return "", err
	}
	if _, err := r.run(ctx, "pin", "wait", volume, "--timeout", "30s"); err != nil {
		return "", err
	}
	out, err := r.run(ctx, "token", "--json")
	if err != nil {
		return "", err
	}
	var said struct{ Token, Namespace string }
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if err := errors.Join(r.umountAll(ctx), r.stop()); err != nil {
		return "", err
	}
	pins, err := inlinePins(p.sizes.pins)
	if err != nil {
		return "", err
	}
	progress("give the host and the cluster %d pins", len(pins))
	var hostErr error
	var wg sync.WaitGroup
	wg.Go(func() { hostErr = addToHost(ctx, filepath.Join(r.home, "store"), pins) })
	err = addToCluster(ctx, r.nodes[0], said.Namespace, pins)
	wg.Wait()
	return said.Token, errors.Join(hostErr, err)
}

// inlinePins are pins of roots that hold their content themselves, so that nobody fetches anything. What they carry is as
// long as the signed head of a volume.
func inlinePins(n int) ([]pinset.Pin, error) {
	record := strings.Repeat("r", 1000)
	pins := make([]pinset.Pin, n)
	for i := range pins {
		hash, err := mh.Sum(fmt.Appendf(nil, "pin %d", i), mh.IDENTITY, -1)
		if err != nil {
			return nil, err
		}
		pins[i] = pinset.Pin{
			Root: cid.NewCidV1(cid.Raw, hash), Name: fmt.Sprintf("snapshot/%d", i),
			Meta: map[string]string{"bench": record}, Created: time.Unix(1e9+int64(i), 0),
		}
	}
	return pins, nil
}

func addToHost(ctx context.Context, dir string, pins []pinset.Pin) error {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	set := local.New(s, s.BeginSweep)
	for _, pin := range pins {
		if err := set.Add(ctx, pin); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	return s.Close()
}

func addToCluster(ctx context.Context, n *clustertest.Node, namespace string, pins []pinset.Pin) error {
	set, err := cluster.New(cluster.Options{
		Endpoints: []string{n.REST()}, Namespace: namespace,
		Default: cluster.Placement{Min: enoughPeers, Max: clustertest.DefaultPeers},
	})
	if err != nil {
		return err
	}
	const together = 30
	errs := make([]error, together)
	var wg sync.WaitGroup
	for g := range together {
		wg.Go(func() {
			for i := g; i < len(pins) && errs[g] == nil; i += together {
				errs[g] = addPatiently(ctx, set, pins[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// addPatiently adds a pin. Peers that have much to do are late to say that they are there, and then nothing can be
// allocated to them for a while.
func addPatiently(ctx context.Context, set *cluster.Set, pin pinset.Pin) error {
	const patience = time.Minute
	for until := time.Now().Add(patience); ; {
		err := set.Add(ctx, pin)
		if err == nil || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		time.Sleep(patience / 60)
	}
}
