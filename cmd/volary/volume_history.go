package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

func volumeCommitCommand() *cli.Command {
	return command(cli.Command{
		Name:      "commit",
		Usage:     "make a snapshot of a volume as it is now, and print its CID",
		ArgsUsage: "NAME",
		Description: "The cost is that of what changed. If nothing did, no snapshot is made, which is said on standard error, and the\n" +
			"last one is printed.\n\n" +
			"While programs write, files may be from different moments. --pause freezes the cgroups (version 2) of all processes\n" +
			"that have the volume mounted or its files open, for as long as it takes to read what they have just changed, and\n" +
			"stops nobody if one of them cannot be frozen, such as a process in the root cgroup. It is for containers and\n" +
			"services: a program outside of them that opens a file only now and then may not be seen. Where --exec-before is\n" +
			"given, or an option of the volume, that command is relied on instead.",
		Flags: append(waitFlags(),
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` to find it by"},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE`; may be repeated"},
			&cli.BoolFlag{Name: "pause", Usage: "stop those who write while files are read"},
			&cli.StringFlag{Name: "exec-before", Usage: "have the daemon run the shell command `CMD` before files are read; only root may"},
			&cli.StringFlag{Name: "exec-after", Usage: "and `CMD` after that"},
			&cli.DurationFlag{Name: "exec-timeout", Usage: "each may take `DURATION`; default: as the volume's option says"},
		),
		Action: func(c *cli.Context) error {
			labels, err := parseLabels(c.StringSlice("label"))
			if err != nil {
				return err
			}
			w, err := parseWait(c)
			if err != nil {
				return err
			}
			op := &volume.Commit{
				Name: c.Args().First(), Message: c.String("message"), Labels: labels, Pause: c.Bool("pause"), NoWait: true,
				Hooks: volume.Hooks{Before: c.String("exec-before"), After: c.String("exec-after"), Timeout: c.Duration("exec-timeout")},
			}
			return onHost(create, func(c *cli.Context, host *openedHost) error {
				if err := w.possible(c.Context, host); err != nil {
					return err
				}
				return doAndWait(c, host, w, op, func(out io.Writer, res volume.Result) {
					if c.Bool("pause") && res.Consistency == snapshot.Live {
						fmt.Fprintln(c.App.ErrWriter, "not everybody stood still while files were read; the daemon's log says why")
					}
					printHead(out, res)
				})
			})(c)
		},
	}, 1, 1)
}

func volumeDiscardCommand() *cli.Command {
	return command(cli.Command{
		Name:        "discard",
		Usage:       "throw away what is not committed, for good",
		ArgsUsage:   "NAME",
		Description: "It is asked first, or refused without --force where standard input is no terminal.",
		Flags:       []cli.Flag{forceFlag},
		Action: onHost(readWrite, func(c *cli.Context, host *openedHost) error {
			i, err := listed(c, host, c.Args().First())
			if err != nil {
				return err
			}
			if i.Base.Defined() {
				err = confirm(c, fmt.Sprintf("Throw away what changed in %s since its last commit, for good?", quote(i.Name)))
			}
			if err != nil {
				return err
			}
			return doVolumeOn(c, host, &volume.Discard{Name: i.Name}, quiet)
		}),
	}, 1, 1)
}

func volumeLogCommand() *cli.Command {
	return command(cli.Command{
		Name: "log", Usage: "list the snapshots of a volume, the newest first", ArgsUsage: "NAME",
		Flags:  logFlags(),
		Action: showLog,
	}, 1, 1)
}

func volumeDiffCommand() *cli.Command {
	return command(cli.Command{
		Name:      "diff",
		Usage:     "show what changed in a volume since its last snapshot, or since another state",
		ArgsUsage: "NAME [STATE]",
		Description: "STATE is what stands after the @ in a reference: a sequence number, ~COUNT, a tag or a time. The lines and the\n" +
			"exit code are those of `volary diff`.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "ignore-mtime", Usage: "leave out what differs in its mtime alone"}},
		Action: onHost(readWrite, func(c *cli.Context, host *openedHost) error {
			ref := c.Args().First()
			if state := c.Args().Get(1); state != "" {
				ref += "@" + state
			}
			before, err := openRef(c.Context, host.Host, ref)
			if err != nil {
				return err
			}
			res, err := host.Volumes.Do(c.Context, &volume.Preview{Name: c.Args().First()})
			if err != nil {
				return err
			}
			after, err := tree.Open(c.Context, host.Blocks, res.Commit.Cid)
			if err != nil {
				return err
			}
			return printDiff(c, before.Snapshot, after)
		}),
	}, 1, 2)
}

func volumeTagCommand() *cli.Command {
	return command(cli.Command{
		Name:      "tag",
		Usage:     "give a state of a volume a name",
		ArgsUsage: "NAME TAG [STATE]",
		Description: "The state is then NAME@TAG wherever a REF can stand. Without STATE it is the last snapshot.\n" +
			"A tag that exists is moved, and where it was is said on standard error.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "delete", Aliases: []string{"d"}, Usage: "delete the tag, not the state"}},
		Action: func(c *cli.Context) error {
			a := c.Args()
			return doVolume(c, &volume.Tag{Name: a.First(), Tag: a.Get(1), State: volume.InLocalZone(a.Get(2)), Delete: c.Bool("delete")}, quiet)
		},
	}, 2, 3)
}

func volumeRollbackCommand() *cli.Command {
	return command(cli.Command{
		Name:      "rollback",
		Usage:     "make an earlier state of a volume the newest one",
		ArgsUsage: "NAME STATE|REF",
		Description: "The state until now stays in the history, and what is not committed is committed first. The volume must not be\n" +
			"mounted. Prints the new snapshot's CID.",
		Flags: append(waitFlags(), &cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` to find it by"}),
		Action: onHost(readWrite, func(c *cli.Context, host *openedHost) error {
			w, err := parseWait(c)
			if err == nil {
				err = w.possible(c.Context, host)
			}
			if err != nil {
				return err
			}
			name, to := c.Args().First(), volume.InLocalZone(c.Args().Get(1))
			if _, err := host.Volumes.Resolve(c.Context, name+"@"+to); err != nil {
				whole, other := wholeRef(c.Context, host.Host, to)
				if other != nil {
					return err
				}
				to = whole
			}
			return doAndWait(c, host, w, &volume.Rollback{Name: name, To: to, Message: c.String("message"), NoWait: true}, printHead)
		}),
	}, 2, 2)
}

func volumeCloneCommand() *cli.Command {
	return command(cli.Command{
		Name:        "clone",
		Usage:       "make a volume that begins at another's state",
		ArgsUsage:   "NAME[@STATE] NEW",
		Description: "No data is copied. What the other has not committed is not in it.",
		Flags:       []cli.Flag{optionFlag},
		Action: func(c *cli.Context) error {
			options, err := volumeOptions(c)
			if err != nil {
				return err
			}
			return doVolume(c, &volume.Clone{Name: volume.InLocalZone(c.Args().First()), To: c.Args().Get(1), Options: options}, printName)
		},
	}, 2, 2)
}

func volumeRetainCommand() *cli.Command {
	return command(cli.Command{
		Name:      "retain",
		Usage:     "keep only those snapshots of a volume that its option keep asks for",
		ArgsUsage: "NAME",
		Description: "Every commit does this by itself. Prints each snapshot that was kept and the rules that keep it. The head, tagged\n" +
			"snapshots, forks and the base of changes stay whatever the rules say.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "change nothing"}},
		Action: func(c *cli.Context) error {
			op := &volume.Retain{Name: c.Args().First(), DryRun: c.Bool("dry-run")}
			return doVolume(c, op, func(out io.Writer, res volume.Result) {
				w := columns(out)
				defer w.Flush()
				for _, r := range res.Retained {
					rules := "not kept"
					if len(r.Rules) > 0 {
						rules = strings.Join(r.Rules, ", ")
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", r.Commit, timeText(r.Time), rules)
				}
			})
		},
	}, 1, 1)
}
