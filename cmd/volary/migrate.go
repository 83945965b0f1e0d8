package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

func migrateCommand() *cli.Command {
	return command(cli.Command{
		Name:  "migrate",
		Usage: "move what is kept in the state directory to the Kubo daemon",
		Description: "Sends the blocks of all that is kept to the daemon that kubo in config.toml, --kubo or VOLARY_KUBO names, and has\n" +
			"it keep them. No CID changes. The daemon of Volary must not run. It can be interrupted and run again. What is in\n" +
			"the state directory stays there, and is read from there; --clear removes it once the daemon has all of it, which\n" +
			"config.toml has to name then.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "clear", Usage: "then remove the blocks from the state directory"}},
		Action: migrate,
	}, 0, 0)
}

func migrate(c *cli.Context) error {
	host, err := openHost(c, readWrite)
	if err != nil {
		return err
	}
	defer host.Close()
	k := host.home.remote.kept
	if k == nil {
		return errNoKubo
	}
	if h := host.home; c.Bool("clear") && h.config.Kubo != h.kuboOfFile {
		return usagef("--clear would leave a state whose settings do not say where its blocks are\nwrite kubo = %q into %s, and run it again",
			h.config.Kubo, h.path("config.toml"))
	}
	p := newProgress(c, "sent")
	moved, err := k.Move(c.Context, func(_, bytes int) { p.add(uint64(bytes)) })
	p.finish()
	if err != nil {
		return err
	}
	if c.Bool("clear") {
		if err := k.Clear(c.Context); err != nil {
			return err
		}
	}
	return outputOf(c).object(moved, func(w io.Writer) {
		fmt.Fprintf(w, "%d snapshots; %d blocks sent, %s\n", moved.Roots, moved.Blocks, bytesText(uint64(moved.Bytes)))
	})
}
