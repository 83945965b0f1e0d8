package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"runtime/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/p2p"
	"github.com/volary/volary/volume/api"
)

func daemonCommand() *cli.Command {
	return command(cli.Command{
		Name:  "daemon",
		Usage: "hold the state and share it over a unix socket",
		Description: "Runs until it is told to stop. The socket is volary.sock in the state directory; root, the daemon's own\n" +
			"user and the members of the group socket_group (config.toml) may use it. Other verbs find it by themselves.\n" +
			"Metrics for Prometheus are at /metrics on the same socket.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "io-timeout", Usage: "how long a read in a mount waits for data that nobody has, before it fails: `TIME`, instead of io_timeout in config.toml"},
			&cli.StringFlag{Name: "cache-size", Usage: "space for blocks that were read from a Kubo daemon on another machine: `SIZE`, instead of cache_size in config.toml; 0 for none"},
			&cli.StringFlag{Name: "docker", Usage: "be a volume driver for the Docker engine: `SOCKET`, instead of docker in config.toml; usually /run/docker/plugins/volary.sock"},
			&cli.StringFlag{Name: "reserve", Usage: "space kept free for finishing commits when the disk is full: `SIZE`, instead of reserve in config.toml; 0 for none"},
		},
		Action: runDaemon,
	}, 0, 0)
}

func runDaemon(c *cli.Context) error {
	if err := mayServeDocker(c.String("docker"), os.Geteuid()); err != nil {
		return err
	}
	h, err := openHome(c, true)
	if err != nil {
		return err
	}
	if c.IsSet("io-timeout") {
		h.config.IOTimeout = c.String("io-timeout")
	}
	if c.IsSet("cache-size") {
		h.config.CacheSize = c.String("cache-size")
	}
	if c.IsSet("docker") {
		h.config.Docker = c.String("docker")
	}
	if c.IsSet("reserve") {
		h.config.Reserve = c.String("reserve")
	}
	if err := h.config.check(); err != nil {
		return usageError{err.Error()}
	}
	if err := mayServeDocker(h.config.Docker, os.Geteuid()); err != nil {
		return err
	}
	gid, err := socketGroup(h.config.SocketGroup)
	if err != nil {
		return err
	}
	manager, err := openSupervisor()
	if err != nil {
		return err
	}
	alive, end := context.WithCancel(context.WithoutCancel(c.Context))
	var work sync.WaitGroup
	work.Go(func() { manager.tellAlive(alive) })
	defer work.Wait()
	defer end()
	served := make(chan error, 1)
	go func() { served <- serve(c.Context, h, gid, manager) }()
	select {
	case err := <-served:
		return err
	case <-c.Context.Done():
	}
	if err := manager.tell(isStopping); err != nil {
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Warn("stopping", "error", err)
	}
	select {
	case err := <-served:
		return err
	case <-time.After(endTime):
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		return errNotEnding
	}
}

// mayServeDocker refuses a driver whose volumes could not be mounted.
func mayServeDocker(socket string, uid int) error {
	if socket == "" || uid == 0 {
		return nil
	}
	return worded{"a daemon for Docker runs as root: mounting needs that", fs.ErrPermission}
}

// endTime is how long a daemon may take to end once it was told to. What it waits for may take as long as a read of data
// that nobody has, and what it has acknowledged needs no orderly end.
const endTime = 45 * time.Second

var errNotEnding = errors.New("it was told to end, and what is under way does not: it ends as if it were killed\n" +
	"nothing that was acknowledged is lost; what was under way is above, for a report")

// serve is a daemon until ctx is done.
func serve(ctx context.Context, h *home, gid int, manager supervisor) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	host, killed, err := openServed(ctx, h, log)
	if err != nil {
		return err
	}
	defer host.Close()
	listener, err := api.Listen(h.path(socketName), gid)
	if err != nil {
		return err
	}
	leases, err := h.openLeases(log)
	if err != nil {
		return err
	}
	volumes, err := serveVolumes(ctx, h, host, leases, killed, log)
	if err != nil {
		return err
	}
	defer volumes.close()
	stopDocker, err := h.startDocker(host, volumes.Manager, log)
	if err != nil {
		return err
	}
	stopDocker = sync.OnceFunc(stopDocker)
	defer stopDocker()
	network, err := h.startNetwork(ctx, log,
		func(ctx context.Context, p *p2p.Host) (func() error, error) { return h.exchanging(ctx, p, log) },
		func(ctx context.Context, p *p2p.Host) (func() error, error) {
			return h.gossiping(ctx, p, volumes.Hear, log)
		},
		func(ctx context.Context, p *p2p.Host) (func() error, error) {
			return h.publishing(ctx, p, volumes.Manager, log)
		},
		func(ctx context.Context, p *p2p.Host) (func() error, error) { return leases.Join(ctx, p.Libp2p()) })
	if err != nil {
		return err
	}
	defer network.close()
	if network != nil {
		host.Network = network
	}
	records, err := h.publishedRecords(volumes.Manager)
	if err != nil {
		return err
	}
	stopGateway := sync.OnceFunc(h.startGateway(ctx, records, log))
	defer stopGateway()
	server, err := api.NewServer(host, api.ServerOptions{Logger: log, Version: version(), Kinds: errorKinds})
	if err != nil {
		return err
	}
	log.Info("listening", "socket", h.path(socketName))
	if err := manager.tell(isReady); err != nil {
		return err
	}
	if err := server.Serve(ctx, listener); err != nil {
		return err
	}
	stopGateway()
	network.close()
	stopDocker()
	return errors.Join(volumes.close(), host.Close())
}

// socketGroup is the number of a group; -1 without a name, for the daemon's own. A program without libc knows no names
// but those in /etc/group: others are given as numbers.
func socketGroup(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if n, notNumber := strconv.ParseUint(name, 10, 31); err != nil && notNumber == nil {
		return int(n), nil
	}
	if err != nil {
		return 0, usagef("socket_group in config.toml: %v", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return 0, fmt.Errorf("group %s has the number %q: %w", name, g.Gid, err)
	}
	return gid, nil
}
