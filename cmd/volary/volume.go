package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

func volumeCommand() *cli.Command {
	return &cli.Command{
		Name:   "volume",
		Usage:  "names with a history of snapshots, mounted as directories",
		Action: onlySubcommands("volume"),
		Subcommands: []*cli.Command{
			volumeCreateCommand(), volumeLsCommand(), volumeInspectCommand(), volumeRenameCommand(), volumeSetCommand(), volumeRmCommand(),
			volumeUndeleteCommand(), volumePruneCommand(), volumeMountCommand(), volumeUmountCommand(), volumeFollowCommand(), volumeCommitCommand(), volumeDiscardCommand(),
			volumeLogCommand(), volumeDiffCommand(), volumeTagCommand(), volumeRetainCommand(), volumeRollbackCommand(), volumeForksCommand(), volumeMergeCommand(), volumeCloneCommand(), volumeKeyCommand(),
		},
	}
}

// onlySubcommands is the action of a command that is none without another word.
func onlySubcommands(name string) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() > 0 {
			return usagef("there is no command \"%s %s\"\nsee `volary %s --help`", name, c.Args().First(), name)
		}
		return cli.ShowSubcommandHelp(c)
	}
}

// onHost is the action of a verb that works on the host's state.
func onHost(a access, do func(c *cli.Context, host *openedHost) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		host, err := openHost(c, a)
		if err != nil {
			return err
		}
		defer host.Close()
		return do(c, host)
	}
}

// doVolume runs an operation and prints what it did.
func doVolume(c *cli.Context, op volume.Operation, text func(w io.Writer, res volume.Result)) error {
	return onHost(create, func(c *cli.Context, host *openedHost) error { return doVolumeOn(c, host, op, text) })(c)
}

func doVolumeOn(c *cli.Context, host *openedHost, op volume.Operation, text func(w io.Writer, res volume.Result)) error {
	res, err := host.Volumes.Do(c.Context, op)
	if err != nil {
		return err
	}
	return printResult(c, res, text)
}

// printResult prints what an operation did, and on standard error what people want to know besides.
func printResult(c *cli.Context, res volume.Result, text func(w io.Writer, res volume.Result)) error {
	for _, path := range res.Unsettled {
		fmt.Fprintf(c.App.ErrWriter, "changed while it was read: %s\n", quote(path))
	}
	if res.Note != "" {
		fmt.Fprintln(c.App.ErrWriter, res.Note)
	}
	if err := outputOf(c).object(res, func(w io.Writer) { text(w, res) }); err != nil {
		return err
	}
	if res.Warning != "" {
		return incompleteError{res.Warning}
	}
	return nil
}

func quiet(io.Writer, volume.Result) {}

func printHead(w io.Writer, res volume.Result) { fmt.Fprintln(w, res.Commit) }

func printName(w io.Writer, res volume.Result) { fmt.Fprintln(w, res.Volume.Name) }

// printCommit prints a commit only if the operation made one.
func printCommit(w io.Writer, res volume.Result) {
	if res.Created {
		printHead(w, res)
	}
}

func printRemoved(w io.Writer, res volume.Result) {
	for _, name := range res.Removed {
		fmt.Fprintln(w, name)
	}
}

var optionFlag = &cli.StringSliceFlag{Name: "option", Aliases: []string{"o"}, Usage: "`KEY=VALUE` of the volume; may be repeated"}

// volumeOptions are the volume's options on the command line.
func volumeOptions(c *cli.Context) (map[string]string, error) {
	if !c.IsSet("option") {
		return nil, nil
	}
	return parsePairs("option", c.StringSlice("option"))
}

func volumeCreateCommand() *cli.Command {
	return command(cli.Command{
		Name:      "create",
		Usage:     "make a volume, empty or from a snapshot",
		ArgsUsage: "NAME",
		Description: "From a snapshot no data is copied, however large it is.\n\nOptions:\n" + volume.OptionHelp() +
			"\nA name is text without slashes, colons, spaces and '@' that does not begin with '.' or '-'.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "begin at the snapshot `REF`"},
			optionFlag,
		},
		Action: onHost(create, func(c *cli.Context, host *openedHost) error { return createVolume(c, host, nil) }),
	}, 1, 1)
}

// createVolume makes the volume that is named first, with a key if there is one.
func createVolume(c *cli.Context, host *openedHost, key *volume.Key) error {
	options, err := volumeOptions(c)
	if err != nil {
		return err
	}
	if c.IsSet("from") && c.String("from") == "" {
		return usagef("--from was given an empty argument, perhaps an unset variable")
	}
	op := &volume.Create{Name: c.Args().First(), Options: options, Key: key}
	if from := c.String("from"); from != "" {
		if op.From, err = wholeRef(c.Context, host.Host, from); err != nil {
			return err
		}
	}
	return doVolumeOn(c, host, op, printName)
}

// wholeRef resolves a ref to the CID of a whole snapshot.
func wholeRef(ctx context.Context, host *api.Host, ref string) (string, error) {
	loc, err := resolve(ctx, host, ref)
	if err != nil {
		return "", err
	}
	if loc.path != "" {
		return "", usagef("%s is a part of a snapshot; a volume begins at a whole one", quote(ref))
	}
	return loc.root.String(), nil
}

func volumeRenameCommand() *cli.Command {
	return command(cli.Command{
		Name: "rename", Usage: "give a volume another name", ArgsUsage: "NAME NEW",
		Action: func(c *cli.Context) error {
			return doVolume(c, &volume.Rename{Name: c.Args().First(), To: c.Args().Get(1)}, quiet)
		},
	}, 2, 2)
}

func volumeSetCommand() *cli.Command {
	return command(cli.Command{
		Name:      "set",
		Usage:     "change options of a volume",
		ArgsUsage: "NAME KEY=VALUE...",
		Description: "KEY= takes an option away. The options are those of create. They count on this host; on other hosts of the namespace, where\n" +
			"they were not set, from the volume's next commit: one of the same files is made for that if hosts are connected and no other one\n" +
			"has the volume mounted for writing. exec-*, follow, overlay and readonly are each host's own.",
		Action: func(c *cli.Context) error {
			options, err := parsePairs("option", c.Args().Tail())
			if err != nil {
				return err
			}
			return doVolume(c, &volume.Set{Name: c.Args().First(), Options: options}, quiet)
		},
	}, 2, -1)
}

func volumeRmCommand() *cli.Command {
	return command(cli.Command{
		Name:      "rm",
		Usage:     "remove a volume",
		ArgsUsage: "NAME",
		Description: "Prints its name. What is not committed is committed first. `volary volume undelete` brings the volume back, for as long as its\n" +
			"option trash says; after that its snapshots are no longer kept. With --purge they are not from now on, and nothing brings\n" +
			"the volume back; NAME can be one that was removed before. `volary gc` then has the space. It is asked first, or refused\n" +
			"without --force where standard input is no terminal.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also if it is mounted, here or elsewhere, but not while a process uses it here; with --purge, do not ask"},
			&cli.BoolFlag{Name: "purge", Usage: "for good: let go of its snapshots at once"},
		},
		Action: onHost(readWrite, volumeRm),
	}, 1, 1)
}

func volumeRm(c *cli.Context, host *openedHost) error {
	op := &volume.Remove{Name: c.Args().First(), Force: c.Bool("force"), Purge: c.Bool("purge")}
	removed := false
	if op.Purge {
		var err error
		if removed, err = confirmPurge(c, host, op.Name); err != nil {
			return err
		}
	}
	if op.Force && !removed {
		if err := unbindAll(c, host, op.Name); err != nil {
			return err
		}
	}
	return doVolumeOn(c, host, op, printRemoved)
}

// confirmPurge asks whether a volume is to go for good, and reports whether it was removed before.
func confirmPurge(c *cli.Context, host *openedHost, name string) (removed bool, _ error) {
	infos, err := host.Volumes.List(c.Context, volume.ListOptions{Trash: true})
	if err != nil {
		return false, err
	}
	infos = slices.DeleteFunc(infos, func(i volume.Info) bool { return i.Name != name })
	removed = len(infos) > 0 && !slices.ContainsFunc(infos, func(i volume.Info) bool { return i.Removed == nil })
	what := fmt.Sprintf("Remove %s for good, with its history?", quote(name))
	switch {
	case len(infos) == 0:
		return false, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
	case removed:
		what = fmt.Sprintf("Let go of %s for good, which was removed before?", quote(name))
	}
	return removed, confirm(c, what)
}

func volumeUndeleteCommand() *cli.Command {
	return command(cli.Command{
		Name: "undelete", Usage: "bring a removed volume back", ArgsUsage: "NAME [AS]",
		Action: func(c *cli.Context) error {
			return doVolume(c, &volume.Undelete{Name: c.Args().First(), As: c.Args().Get(1)}, printName)
		},
	}, 1, 2)
}

func volumePruneCommand() *cli.Command {
	return command(cli.Command{
		Name:  "prune",
		Usage: "remove every volume that is not mounted",
		Description: "Prints the names of the volumes. Each can be brought back, as with rm. It is asked first, or refused without\n" +
			"--force where standard input is no terminal.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only print the names"}, forceFlag},
		Action: onHost(readWrite, volumePrune),
	}, 0, 0)
}

func volumePrune(c *cli.Context, host *openedHost) error {
	res, err := host.Volumes.Do(c.Context, &volume.Prune{DryRun: true})
	if err != nil && !errors.Is(err, volume.ErrNotFound) {
		return err
	}
	if c.Bool("dry-run") || len(res.Removed) == 0 {
		return printResult(c, res, printRemoved)
	}
	if res.Note != "" {
		fmt.Fprintln(c.App.ErrWriter, res.Note)
	}
	quoted := make([]string, len(res.Removed))
	for i, name := range res.Removed {
		quoted[i] = quote(name)
	}
	if err := confirm(c, fmt.Sprintf("Remove %s?", strings.Join(quoted, ", "))); err != nil {
		return err
	}
	return doVolumeOn(c, host, &volume.Prune{Names: res.Removed}, printRemoved)
}
