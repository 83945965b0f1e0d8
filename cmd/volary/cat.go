package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/meta"
)

func catCommand() *cli.Command {
	return command(cli.Command{
		Name:      "cat",
		Usage:     "print a file of a snapshot",
		ArgsUsage: "REF/PATH",
		Action:    cat,
	}, 1, 1)
}

func cat(c *cli.Context) error {
	if c.Bool("json") {
		return usagef("cat prints the file itself\nuse `volary stat --json` for what is known about it")
	}
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	t, err := openRef(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	e, err := t.entry(c.Context)
	if err != nil {
		return err
	}
	if e.Type != meta.File {
		return usagef("%s is a %s, not a file\nsee `volary ls`", quote(c.Args().First()), e.Type)
	}
	r, err := t.Reader(c.Context, e)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(c.App.Writer, r); err != nil {
		return fmt.Errorf("read %s: %w", quote(t.path), err)
	}
	return nil
}
