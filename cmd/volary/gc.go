package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume/api"
)

func gcCommand() *cli.Command {
	return command(cli.Command{
		Name:  "gc",
		Usage: "remove the blocks that no kept snapshot needs",
		Description: "Where the host is in a network or knows gateways, snapshots that other hosts made may be here in part: what was read of them\n" +
			"stays for as long as something keeps them, what was read of others goes.\n\n" +
			"Blocks in a Kubo daemon are not Volary's alone: there it is only told to let go of what is left over, of commands\n" +
			"that were killed perhaps, and removes blocks in its own collection.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only say what would be removed"},
		},
		Action: collect,
	}, 0, 0)
}

func collect(c *cli.Context) error {
	host, err := openHost(c, readWrite)
	if err != nil {
		return err
	}
	defer host.Close()
	dry := c.Bool("dry-run")
	res, err := host.Upkeep.Collect(c.Context, dry)
	if err != nil {
		return err
	}
	err = outputOf(c).object(res, func(w io.Writer) {
		verb := "removed"
		if dry {
			verb = "would remove"
		}
		if res.Collector != "" {
			verb = strings.Replace(verb, "remove", "release", 1)
			fmt.Fprintf(w, "%s %d leftovers; removing blocks is for the Kubo daemon at %s: `ipfs repo gc`\n", verb, res.Released, res.Collector)
			if res.Unknown > 0 {
				fmt.Fprintf(w, "left %d pins of this host that this state directory knows nothing of: a copy of it may need them\n", res.Unknown)
			}
			comparedText(w, res, dry)
			removedText(w, res)
			return
		}
		fmt.Fprintf(w, "%s %d blocks (%s); %d blocks (%s) are kept\n", verb, res.RemovedBlocks, bytesText(res.RemovedBytes), res.KeptBlocks, bytesText(res.KeptBytes))
		if !dry {
			fmt.Fprintf(w, "freed %s of disk space\n", bytesText(res.FreedBytes))
		}
		removedText(w, res)
		if n := len(res.Elsewhere); n == local.MaxMissing {
			fmt.Fprintf(w, "%d or more blocks of kept snapshots were never here: other hosts have them\n", n)
		} else if n > 0 {
			fmt.Fprintf(w, "%d blocks of kept snapshots were never here: other hosts have them\n", n)
		}
		for _, m := range res.Missing {
			fmt.Fprintf(w, "missing %s\n", m)
		}
		for _, d := range res.Damaged {
			fmt.Fprintf(w, "damaged %s\n", d)
		}
	})
	if err != nil {
		return err
	}
	return lacking(res)
}

// removedText says that there is more to be had than was removed.
func removedText(w io.Writer, res api.Collected) {
	switch n := res.RemovedVolumes; n {
	case 0:
	case 1:
		fmt.Fprintln(w, "1 removed volume keeps its snapshots: `volary volume ls --trash`, `volary volume rm --purge`")
	default:
		fmt.Fprintf(w, "%d removed volumes keep their snapshots: `volary volume ls --trash`, `volary volume rm --purge`\n", n)
	}
}

// comparedText says how far the cluster's list was from what is kept.
func comparedText(w io.Writer, res api.Collected, dry bool) {
	verb := "told"
	if dry {
		verb = "would tell"
	}
	if res.Told+res.Untold > 0 {
		fmt.Fprintf(w, "%s the cluster of %d pins that it lacked, and to let go of %d\n", verb, res.Told, res.Untold)
	}
	if res.NotCompared != "" {
		fmt.Fprintf(w, "not compared with the cluster's list: %s\n", quote(res.NotCompared))
	}
}

// lacking is the error for blocks that kept snapshots need and the store does not have as they should be.
func lacking(res api.Collected) error {
	n, kind := len(res.Missing)+len(res.Damaged), snapshot.ErrNotFound
	if n == 0 {
		return nil
	}
	if len(res.Damaged) > 0 {
		kind = snapshot.ErrDamaged
	}
	nothing := ""
	if res.Withheld {
		nothing = ", and nothing was removed, since they may link to what is needed"
	}
	return hinted{
		fmt.Errorf("%d blocks that kept snapshots need are missing or damaged%s: %w", n, nothing, kind),
		"`volary verify REF` says which files of a snapshot are affected; mend or remove it",
	}
}
