package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/hydrate"
)

func hydrateCommand() *cli.Command {
	return command(cli.Command{
		Name:      "hydrate",
		Usage:     "bring all of a snapshot to this host",
		ArgsUsage: "REF",
		Description: "Gets every block that is not here yet from other hosts, the Kubo daemon or gateways, so that reading the\n" +
			"snapshot needs no network any more. It can be interrupted and run again: what came is not got twice. What\n" +
			"nothing keeps is removed by the next `volary gc`; `volary pin add REF` keeps it.",
		Action: hydrateRef,
	}, 1, 1)
}

type hydrateJSON struct {
	Root          string `json:"root"`
	Blocks        uint64 `json:"blocks"`
	FetchedBlocks uint64 `json:"fetched_blocks"`
	FetchedBytes  uint64 `json:"fetched_bytes"`
}

func hydrateRef(c *cli.Context) error {
	host, err := openHost(c, readWrite)
	if err != nil {
		return err
	}
	defer host.Close()
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
	bar := newProgress(c, "hydrating")
	defer bar.finish()
	last := uint64(0)
	st, err := hydrate.Fetch(c.Context, s, loc.root, hydrate.Options{Progress: func(st hydrate.Stats) {
		bar.add(st.FetchedBytes - last)
		last = st.FetchedBytes
	}})
	bar.finish()
	if err != nil {
		if st.FetchedBlocks > 0 {
			fmt.Fprintf(c.App.ErrWriter, "%d blocks came, %s; run it again for the rest\n", st.FetchedBlocks, bytesText(st.FetchedBytes))
		}
		return err
	}
	res := hydrateJSON{loc.root.String(), st.Blocks, st.FetchedBlocks, st.FetchedBytes}
	return outputOf(c).object(res, func(w io.Writer) {
		fmt.Fprintf(w, "%d blocks are here; %d were fetched, %s\n", res.Blocks, res.FetchedBlocks, bytesText(res.FetchedBytes))
	})
}
