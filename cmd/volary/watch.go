package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

func watchCommand() *cli.Command {
	return command(cli.Command{
		Name:      "watch",
		Usage:     "print a line whenever a volume has a new state",
		ArgsUsage: "[VOLUME...]",
		Description: "Whichever host made it. A line has when it was made, the volume, its sequence, the snapshot, and \"fork\", \"removed\" or\n" +
			"nothing. It needs the daemon, and goes on until it is interrupted or the daemon ends. What comes faster than it can be\n" +
			"taken is summed up: where each volume is in the end is always told.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "current", Usage: "begin with where the volumes are now"},
			&cli.StringFlag{Name: "exec", Usage: "run `COMMAND` by sh for each line, one after another, with VOLARY_VOLUME, VOLARY_COMMIT, VOLARY_SEQUENCE and VOLARY_STATE (head, fork or removed) in its environment"},
		},
		Action: onHost(readOnly, watch),
	}, 0, -1)
}

func watch(c *cli.Context, host *openedHost) error {
	out := outputOf(c)
	o := volume.WatchOptions{Names: c.Args().Slice(), Exist: true, Current: c.Bool("current")}
	for n, err := range host.Volumes.Watch(c.Context, o) {
		if c.Context.Err() != nil {
			return errEnded
		}
		if errors.Is(err, snapshot.ErrUnavailable) {
			return errors.New("watch: the daemon ended\nstart it, `volary daemon`, and run the command again")
		}
		if err != nil {
			return err
		}
		if err := out.object(n, func(w io.Writer) { fmt.Fprintln(w, newsLine(n)) }); err != nil {
			return err
		}
		if command := c.String("exec"); command != "" {
			if err := runFor(c.Context, command, n); err != nil {
				fmt.Fprintf(c.App.ErrWriter, "command for %s: %v\n", quote(n.Name), err)
			}
		}
	}
	return nil
}

func newsLine(n volume.News) string {
	made := "-"
	if !n.Time.IsZero() {
		made = n.Time.Local().Format(time.RFC3339)
	}
	line := fmt.Sprintf("%s  %s  %d  %s", made, quote(n.Name), n.Sequence, n.Head)
	if s := stateOf(n); s != "head" {
		line += "  " + s
	}
	return line
}

func stateOf(n volume.News) string {
	switch {
	case n.Removed:
		return "removed"
	case n.Fork:
		return "fork"
	}
	return "head"
}

func runFor(ctx context.Context, command string, n volume.News) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "VOLARY_VOLUME="+n.Name, "VOLARY_COMMIT="+n.Head.String(), "VOLARY_SEQUENCE="+strconv.FormatUint(n.Sequence, 10), "VOLARY_STATE="+stateOf(n))
	return cmd.Run()
}
