package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/importer"
)

func initCommand() *cli.Command {
	return command(cli.Command{
		Name:        "init",
		Usage:       "make the state directory",
		Description: "The first snapshot or import makes it as well; init is for choosing settings first.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "chunker", Usage: "how later snapshots cut files into blocks: `size-N, rabin-MIN-AVG-MAX or buzhash`"},
			&cli.StringFlag{Name: "join", Usage: "`TOKEN` of a namespace that other hosts are in: what `volary token` prints there"},
			&cli.StringFlag{Name: "swarm-key", Usage: "`FILE` with the key of an IPFS swarm that the namespace's hosts are to be in, or none for a swarm that is not private; default: one derived from the namespace's secret"},
			&cli.StringSliceFlag{Name: "listen", Usage: "`ADDRESS` at which other hosts of the namespace are to reach this one: IP:PORT or a multiaddress; repeatable"},
			&cli.StringSliceFlag{Name: "peer", Usage: "`ADDRESS` of a host of the namespace: /ip4/IP/tcp/PORT/p2p/ID; repeatable"},
			&cli.StringFlag{Name: "docker", Usage: "`SOCKET` at which the daemon is to be a volume driver for the Docker engine, usually /run/docker/plugins/volary.sock"},
			&cli.StringFlag{Name: "kubo", Usage: "`ADDRESS` of the RPC of the Kubo daemon that is to have the blocks: a URL or multiaddress"},
			&cli.StringFlag{Name: "kubo-auth-file", Usage: "`FILE` with \"bearer TOKEN\" or \"USER:PASSWORD\" for it"},
			&cli.StringFlag{Name: "cluster", Usage: "`URLS` of REST APIs of one IPFS Cluster, separated by commas"},
			&cli.StringFlag{Name: "cluster-auth-file", Usage: "`FILE` with \"USER:PASSWORD\" for them"},
			&cli.StringFlag{Name: "replicas", Usage: "how often the cluster is to hold what is kept: `MIN-MAX`"},
		},
		Action: initHome,
	}, 0, 0)
}

type initJSON struct {
	Home   string `json:"home"`
	PeerID string `json:"peer_id"`
}

func initHome(c *cli.Context) error {
	if err := importer.CheckChunker(c.String("chunker")); err != nil {
		return usageError{err.Error()}
	}
	dir, err := homeDir(c)
	if err != nil {
		return err
	}
	h := &home{dir: dir}
	already := usagef("there is state at %s already\nwrite settings into config.toml there; another namespace takes a state of its own: another --home", dir)
	if exists(h.path("state.json")) {
		return already
	}
	if err := checkInit(c); err != nil {
		return err
	}
	if err := h.checkBare(); err != nil {
		return err
	}
	made, err := h.create(func() error { return h.settle(c) })
	if err != nil {
		return err
	}
	if !made {
		return already
	}
	id, err := h.peerID()
	if err != nil {
		return err
	}
	return outputOf(c).line(initJSON{h.dir, id}, "%s", h.dir)
}

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "see the settings",
		Subcommands: []*cli.Command{command(cli.Command{
			Name:   "show",
			Usage:  "print the settings in force",
			Action: showConfig,
		}, 0, 0)},
	}
}

type configJSON struct {
	Home string `json:"home"`
	File string `json:"file"`
	config
}

func showConfig(c *cli.Context) error {
	h, err := openHome(c, false)
	if err != nil {
		return err
	}
	return outputOf(c).object(configJSON{h.dir, h.path("config.toml"), h.config}, func(w io.Writer) {
		fmt.Fprintf(w, "# state: %s\n# file:  %s\n%s", h.dir, h.path("config.toml"), h.config.text())
	})
}

// version is what git knew when the program was built.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionCommand() *cli.Command {
	return command(cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			j := map[string]string{"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return outputOf(c).line(j, "volary %s %s %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}, 0, 0)
}
