package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume"
)

func volumeFollowCommand() *cli.Command {
	return command(cli.Command{
		Name:      "follow",
		Usage:     "keep the last states of a volume on this host",
		ArgsUsage: "NAME",
		Description: "The daemon gets all of them in the background, whoever makes them, and goes on after an interruption; older ones are let go\n" +
			"of once as many newer ones are complete. `volary volume inspect` says how far it is. `volary volume mount --follow` shows\n" +
			"each new state in a directory, `volary watch` prints them, and the option exec-head runs a command.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "pin", Usage: "keep the last `N` states, from now on"},
			&cli.BoolFlag{Name: "off", Usage: "keep none any longer"},
		},
		Action: volumeFollow,
	}, 1, 1)
}

func volumeFollow(c *cli.Context) error {
	op := &volume.Follow{Name: c.Args().First(), Last: c.Int("pin")}
	switch {
	case c.IsSet("pin") == c.Bool("off"):
		return usagef("say either --pin and how many states, or --off")
	case c.IsSet("pin") && (op.Last < 1 || op.Last > volume.MostFollowed):
		return usagef("--pin %d: give a number from 1 to %d, or --off", op.Last, volume.MostFollowed)
	case isForkRef(op.Name):
		return usagef("%s is a state of a volume\ngive the volume alone; `volary pin add` keeps one state", op.Name)
	}
	return doVolume(c, op, quiet)
}

// followingText says what is done on this host with new states of a volume.
func followingText(w io.Writer, i *volume.Info) {
	f := i.Following
	if f == nil {
		return
	}
	if f.Shown.Defined() {
		behind := ""
		if f.Shown != i.Head {
			behind = ", which is not the newest"
		}
		fmt.Fprintf(w, "shown\t%s%s\n", f.Shown, behind)
	}
	for _, c := range f.InUse {
		fmt.Fprintf(w, "in use\t%s, which was shown before\n", c)
	}
	if f.Last > 0 {
		fmt.Fprintf(w, "followed\t%d of the last %d states are kept here\n", f.Kept, f.Last)
	}
	if f.Lacks != "" {
		fmt.Fprintf(w, "lacks\t%s\n", quote(f.Lacks))
	}
}
