package main

import (
	"context"
	"fmt"
	"io"
	"iter"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"
)

func hydrateCommand() *cli.Command {
	return command(cli.Command{
		Name:      "hydrate",
		Usage:     "bring all of a snapshot to this host",
		ArgsUsage: "REF",
		Description: "Gets every block that is not here yet from other hosts, the Kubo daemon or gateways, so that reading the\n" +
			"snapshot needs no network any more. It can be interrupted and run again: what came is not got twice. What\n" +
			"nothing keeps is removed by the next `volary gc`; `volary pin add REF` keeps it.",
		Action: onHost(readWrite, hydrateRef),
	}, 1, 1)
}

type hydrateJSON struct {
	Root          string `json:"root"`
	Blocks        uint64 `json:"blocks"`
	FetchedBlocks uint64 `json:"fetched_blocks"`
	FetchedBytes  uint64 `json:"fetched_bytes"`
}

func hydrateRef(c *cli.Context, host *openedHost) error {
	loc, err := resolve(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	if loc.path != "" {
		return usagef("%s is a part of a snapshot\ngive the snapshot alone: all of it is brought", quote(c.Args().First()))
	}
	// What came is not collected before all is here.
	s, err := host.Sessions.Session(c.Context)
	if err != nil {
		return err
	}
	defer s.Close()
	whole, err := host.home.whole()
	if err != nil {
		return err
	}
	st, err := hydrateWith(c, s, loc.root, whole)
	if err != nil {
		return err
	}
	res := newHydrateJSON(loc.root, st)
	return outputOf(c).object(res, func(w io.Writer) {
		fmt.Fprintf(w, "%d blocks are here; %d were fetched, %s\n", res.Blocks, res.FetchedBlocks, bytesText(res.FetchedBytes))
	})
}

// getWhole gets all of a snapshot at once; see [hydrate.Options].
type getWhole = func(context.Context, cid.Cid) iter.Seq2[blocks.Block, error]

// whole is how all of a snapshot is got at once: from gateways, where no other host or Kubo daemon is asked before them.
func (h *home) whole() (getWhole, error) {
	if h.config.networked() || h.config.Kubo != "" {
		return nil, nil
	}
	f, err := newFar(h.config, nil)
	if err != nil || f.gateways == nil {
		return nil, err
	}
	return f.gateways.DAG, nil
}
