// Command cluster runs a cluster of real Kubo daemons and IPFS Cluster peers in a network namespace of its own, for
// trying things out. The Makefile calls it.
//
//	cluster DIR up N           starts N peers, with their state below DIR
//	cluster DIR exec COMMAND   runs a shell command beside them; its exit code is the command's
//	cluster DIR down           stops them and removes DIR
//
// A command finds the first peer's addresses in its environment: KUBO, the RPC of the Kubo daemon, as ipfs --api
// takes it; CLUSTER, the REST API's URL; CTL, what ipfs-cluster-ctl --host takes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/pinset/cluster/clustertest"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[1] == "up":
		return up(args[0], args[2])
	case len(args) == 3 && args[1] == "exec":
		return execute(args[0], args[2])
	case len(args) == 2 && args[1] == "down":
		return down(args[0])
	}
	return errors.New("usage: cluster DIR up N | exec COMMAND | down")
}

func up(dir, peers string) error {
	n, err := strconv.Atoi(peers)
	if err != nil || n < 1 || n > 99 {
		return fmt.Errorf("%q peers, want a number from 1 to 99", peers)
	}
	c, err := clustertest.Open(dir)
	if err == nil && c.Running() > 0 {
		if len(c.Nodes) == n && c.Running() == 2*n {
			fmt.Fprintf(os.Stderr, "a cluster of %d peers runs already\n", n)
			return nil
		}
		return fmt.Errorf("%d daemons of a cluster of %d peers run already; first: make cluster-down", c.Running(), len(c.Nodes))
	}
	clustertest.Isolate()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	from := time.Now()
	c, err = clustertest.Start(ctx, clustertest.Options{Dir: dir, Peers: n, Min: min(2, n), Max: min(3, n), Detach: true})
	if err != nil {
		return err
	}
	first := c.Nodes[0]
	fmt.Fprintf(os.Stderr, "%d peers after %s: KUBO=%s CLUSTER=%s CTL=%s\n", n, time.Since(from).Round(100*time.Millisecond),
		first.RPC(), first.REST(), first.CTL())
	return nil
}

// execute becomes a shell in the cluster's network namespace.
func execute(dir, command string) error {
	c, err := clustertest.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && c.PID() == 0 {
		return errors.New("no cluster runs; first: make cluster")
	}
	if err != nil {
		return err
	}
	// The namespace is this thread's, and after execve the process's.
	runtime.LockOSThread()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.PID()))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the cluster's network namespace: %w", err)
	}
	first := c.Nodes[0]
	env := append(os.Environ(), "KUBO="+first.RPC(), "CLUSTER="+first.REST(), "CTL="+first.CTL())
	return syscall.Exec("/bin/bash", []string{"bash", "-c", command}, env)
}

func down(dir string) error {
	c, err := clustertest.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
