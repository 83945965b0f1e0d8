// Package clustertest runs a cluster for tests and for trying things out: real Kubo daemons in a private swarm, each
// with a real IPFS Cluster peer. Start with [Isolate], which the program calls first, and [Start].
//
// It guarantees: what it starts talks over loopback only, in a network namespace that has nothing else (a cluster
// peer would ask any router for a port mapping); a process is only ever ended by a number that is certainly its own;
// and, unless they are to be detached, no daemon outlives the program that started it, however that ends.
package clustertest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// DefaultPeers is the number of peers that a cluster has.
const DefaultPeers = 3

// startTimeout bounds how long daemons take to be ready.
const startTimeout = time.Minute

// Options say what to start. Dir is required.
type Options struct {
	Dir    string // repositories, configurations and logs; must not exist or be empty
	Peers  int    // DefaultPeers if zero
	Subnet int    // peers listen on 127.0.Subnet.1 and so on: another one for each cluster of a namespace

	User, Password string // what the REST API asks for; nothing if User is empty
	Min, Max       int    // replication of pins that do not say; everywhere if zero

	Detach bool // daemons go on when the program ends; Open finds them again
}

// Cluster is a running cluster.
type Cluster struct {
	Nodes []*Node

	o       Options
	spawner chan func()
}

// Start makes a cluster and returns when every peer knows of every other one. The caller closes it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Peers == 0 {
		o.Peers = DefaultPeers
	}
	if o.Peers < 1 || o.Peers > 99 {
		return nil, fmt.Errorf("a cluster of %d peers", o.Peers)
	}
	c, err := layOut(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = c.configure(ctx)
	if err == nil {
		err = c.launch(ctx)
	}
	if o.Detach {
		err = errors.Join(err, c.save())
	}
	if err == nil {
		err = c.Ready(ctx, c.Nodes...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

// layOut makes the cluster's nodes and their directories, and runs nothing.
func layOut(o Options) (*Cluster, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	c := &Cluster{o: o, spawner: make(chan func())}
	go c.spawn()
	for i := range o.Peers {
		n, err := c.node(i + 1)
		if err != nil {
			close(c.spawner)
			return nil, err
		}
		c.Nodes = append(c.Nodes, n)
	}
	return c, nil
}

// configure writes what the servers read. Their own init commands make the keys.
func (c *Cluster) configure(ctx context.Context) error {
	secrets := make([]byte, 64)
	if _, err := rand.Read(secrets); err != nil {
		return err
	}
	swarmKey := "/key/swarm/psk/1.0.0/\n/base16/\n" + hex.EncodeToString(secrets[:32]) + "\n"
	if err := c.each(func(n *Node) error {
		return errors.Join(n.initKubo(ctx, swarmKey), n.initService(ctx, c.o, hex.EncodeToString(secrets[32:])))
	}); err != nil {
		return err
	}
	return c.each(func(n *Node) error { return n.introduce(c.Nodes) })
}

// launch runs all daemons; a cluster peer once the one before it answers, so that nobody connects to one that has not
// registered all it serves.
func (c *Cluster) launch(ctx context.Context) error {
	if err := c.each(func(n *Node) error { return n.Kubo.Start() }); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.Service.Start(); err != nil {
			return err
		}
		if err := n.Service.waitFor(ctx, n.restReady); err != nil {
			return err
		}
	}
	return nil
}

// Ready waits until these nodes serve, can allocate to each other, and hear of each other's pins. A cluster peer that
// does not hear is started again; it would be deaf for ever.
func (c *Cluster) Ready(ctx context.Context, nodes ...*Node) error {
	for _, n := range nodes {
		if err := n.Kubo.waitFor(ctx, n.kuboReady); err != nil {
			return err
		}
		if err := n.Service.waitFor(ctx, func(ctx context.Context) error { return n.sees(ctx, nodes) }); err != nil {
			return err
		}
	}
	for _, speaker := range []*Node{nodes[0], nodes[len(nodes)-1]} {
		deaf, err := speaker.deaf(ctx, nodes)
		if err != nil {
			return err
		}
		for _, n := range deaf {
			if err := errors.Join(n.Service.Kill(), n.Service.Start()); err != nil {
				return err
			}
		}
		if len(deaf) > 0 {
			if c.o.Detach {
				if err := c.save(); err != nil {
					return err
				}
			}
			return c.Ready(ctx, nodes...)
		}
	}
	return nil
}

// Close stops every daemon. What they wrote stays in the directory.
func (c *Cluster) Close() error {
	err := c.each((*Node).kill)
	close(c.spawner)
	return err
}

// each calls f for all nodes at once.
func (c *Cluster) each(f func(*Node) error) error {
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// spawn starts processes from one thread, which lives as long as the cluster: the kernel ends a child when the
// thread that started it ends.
func (c *Cluster) spawn() {
	runtime.LockOSThread()
	for f := range c.spawner {
		f()
	}
}

// command starts a daemon's process.
func (c *Cluster) command(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !c.o.Detach {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	done := make(chan error)
	c.spawner <- func() { done <- cmd.Start() }
	return <-done
}

// state is what Open needs to know of detached daemons.
type state struct {
	Peers, Subnet  int
	User, Password string
	Kubo, Service  []identity
}

func (c *Cluster) stateFile() string { return filepath.Join(c.o.Dir, "state.json") }

func (c *Cluster) save() error {
	s := state{Peers: c.o.Peers, Subnet: c.o.Subnet, User: c.o.User, Password: c.o.Password}
	for _, n := range c.Nodes {
		s.Kubo = append(s.Kubo, n.Kubo.id)
		s.Service = append(s.Service, n.Service.id)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(c.stateFile(), text, 0o600)
}

// Open finds the detached cluster of a directory, whether or not its daemons run.
func Open(dir string) (*Cluster, error) {
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", filepath.Join(dir, "state.json"), err)
	}
	if len(s.Kubo) != s.Peers || len(s.Service) != s.Peers {
		return nil, fmt.Errorf("%s is not whole", filepath.Join(dir, "state.json"))
	}
	c, err := layOut(Options{Dir: dir, Peers: s.Peers, Subnet: s.Subnet, User: s.User, Password: s.Password, Detach: true})
	if err != nil {
		return nil, err
	}
	for i, n := range c.Nodes {
		n.Kubo.id, n.Service.id = s.Kubo[i], s.Service[i]
	}
	return c, nil
}

// Running counts the daemons that run, of two for each peer.
func (c *Cluster) Running() int {
	running := 0
	for _, n := range c.Nodes {
		for _, d := range []*Daemon{n.Kubo, n.Service} {
			if d.running() {
				running++
			}
		}
	}
	return running
}

// PID is the process of a daemon that runs, and thereby is in the cluster's namespace; zero if none does.
func (c *Cluster) PID() int {
	for _, n := range c.Nodes {
		for _, d := range []*Daemon{n.Kubo, n.Service} {
			if d.running() {
				return d.id.PID
			}
		}
	}
	return 0
}
