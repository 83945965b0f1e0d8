package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/merge"
	"github.com/volary/volary/volume"
)

func volumeForksCommand() *cli.Command {
	return command(cli.Command{
		Name:      "forks",
		Usage:     "list the states of a volume that no other one comes after",
		ArgsUsage: "NAME",
		Description: "There are several where hosts changed it without hearing of each other. All hosts take the same one for the head, which\n" +
			"is marked so; what this host has mounted, or has changes on, is here if that is another one. BASE is the newest state\n" +
			"from which a fork and the first line's state come. `volary volume merge` joins them. A volume without forks has one line.\n\n" +
			"NAME@fork/AUTHOR, with the AUTHOR of a line or the end of that, is its newest fork wherever a REF can stand: to look at\n" +
			"it, `volary mount` or `volary volume clone` it.",
		Action: onHost(readOnly, func(c *cli.Context, host *openedHost) error {
			i, err := host.Volumes.Inspect(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			out := outputOf(c)
			w := columns(out.w)
			defer w.Flush()
			if !out.json {
				fmt.Fprintln(w, forkHeader)
			}
			for _, f := range forksOf(i) {
				if err := out.object(f, func(io.Writer) { fmt.Fprintln(w, forkLine(f)) }); err != nil {
					return err
				}
			}
			return nil
		}),
	}, 1, 1)
}

// forkJSON is a state that no other one comes after.
type forkJSON struct {
	volume.Fork
	Is string `json:"is"`
}

func forksOf(i *volume.Info) []forkJSON {
	first := forkJSON{volume.Fork{Head: i.Head, Sequence: i.Sequence, Time: i.Time, Author: i.Author, Files: i.Files, Bytes: i.Bytes, Newest: true}, "head"}
	all := []forkJSON{first}
	for _, f := range i.Forks {
		is := "fork"
		if f.Newest {
			is, all[0].Is, all[0].Newest = "head", "here", false
		}
		all = append(all, forkJSON{f, is})
	}
	return all
}

const forkHeader = "COMMIT\tSEQ\tCOMMITTED\tFILES\tSIZE\tIS\tBASE\tAUTHOR"

func forkLine(f forkJSON) string {
	base := "-"
	if f.Base.Defined() {
		base = f.Base.String()
	}
	committed := "-"
	if !f.Time.IsZero() {
		committed = timeText(f.Time)
	}
	return fmt.Sprintf("%s\t%d\t%s\t%d\t%s\t%s\t%s\t%s", f.Head, f.Sequence, committed, f.Files, bytesText(f.Bytes), f.Is, base, f.Author)
}

func isForkRef(ref string) bool {
	_, state, _ := strings.Cut(ref, "@")
	return strings.HasPrefix(state, volume.ForkState)
}

// inspectFork shows one state besides a volume's head.
func inspectFork(c *cli.Context, host *openedHost) error {
	ref := c.Args().First()
	root, err := host.Volumes.Resolve(c.Context, ref)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(ref, "@")
	i, err := host.Volumes.Inspect(c.Context, name)
	if err != nil {
		return err
	}
	for _, f := range forksOf(i) {
		if f.Head.Cid == root {
			return outputOf(c).object(f, func(out io.Writer) {
				w := columns(out)
				defer w.Flush()
				fmt.Fprintln(w, forkHeader)
				fmt.Fprintln(w, forkLine(f))
			})
		}
	}
	return fmt.Errorf("%s is %s, which is not here to be looked at: %w", ref, root, snapshot.ErrNotFound)
}

func volumeMergeCommand() *cli.Command {
	return command(cli.Command{
		Name:      "merge",
		Usage:     "make one state of a volume's head and its forks",
		ArgsUsage: "NAME [FORK...]",
		Description: "FORK is one that `volary volume forks` lists; without any it is all. Of each, what was changed since the newest state\n" +
			"that it and the head come from is brought into the head, file by file, and of a file its content, mode, owner and\n" +
			"extended attributes each by itself. What was renamed counts as removed and added. Prints the new snapshot's CID; on all\n" +
			"other hosts it becomes the head, and the forks are none any more.\n\n" +
			"What both changed, each in its own way, is a conflict. Without --ours, --theirs or --keep-both conflicts are listed, one\n" +
			"a line with what became of the path in the head and in the fork, nothing is changed, and the exit code is 13.\n\n" +
			"The volume must not be mounted on this host, except for --dry-run. What is not committed is committed first. A host\n" +
			"that has it mounted meanwhile goes on from what it has mounted, which is a fork again once it commits.",
		Flags: append(waitFlags(),
			&cli.BoolFlag{Name: "ours", Usage: "in conflicts, take what the head has"},
			&cli.BoolFlag{Name: "theirs", Usage: "in conflicts, take what the fork has"},
			&cli.BoolFlag{Name: "keep-both", Usage: "in conflicts, take what the head has, and put what the fork has beside it as NAME.fork-XXXXXXXX, the end of the fork's CID; what only one of them has stays"},
			&cli.BoolFlag{Name: "no-base", Usage: "as if they had nothing in common, if what they come from cannot be had any more: what one of them removed comes back"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "list the conflicts, and change nothing"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` to find it by"},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE`; may be repeated"},
		),
		Action: onHost(readWrite, func(c *cli.Context, host *openedHost) error {
			op, err := parseMerge(c, host)
			if err != nil {
				return err
			}
			w, err := parseWait(c)
			if err == nil {
				err = w.possible(c.Context, host)
			}
			if err != nil {
				return err
			}
			res, err := host.Volumes.Do(c.Context, op)
			if err != nil {
				return err
			}
			text := func(out io.Writer, res volume.Result) { printMerged(c, out, op, res) }
			if res.Created {
				return printAndWait(c, host, w, op, res, text)
			}
			if err := printResult(c, res, text); err != nil {
				return err
			}
			if res.Merged != nil && len(res.Merged.Conflicts) > 0 && op.Take == merge.None {
				return errConflicts
			}
			return nil
		}),
	}, 1, -1)
}

// errConflicts is how merge says that there are conflicts; it is no message.
var errConflicts = errors.New("conflicts")

func parseMerge(c *cli.Context, host *openedHost) (*volume.Merge, error) {
	labels, err := parseLabels(c.StringSlice("label"))
	if err != nil {
		return nil, err
	}
	op := &volume.Merge{
		Name: c.Args().First(), NoBase: c.Bool("no-base"), DryRun: c.Bool("dry-run"), Message: c.String("message"), Labels: labels, NoWait: true,
	}
	for _, take := range []merge.Take{merge.Ours, merge.Theirs, merge.Both} {
		if !c.Bool(string(take)) {
			continue
		}
		if op.Take != merge.None {
			return nil, usagef("--%s and --%s contradict each other", op.Take, take)
		}
		op.Take = take
	}
	for _, ref := range c.Args().Tail() {
		whole, err := wholeRef(c.Context, host.Host, ref)
		if errors.Is(err, fs.ErrNotExist) {
			err = hinted{err, fmt.Sprintf("see `volary volume forks %s`: a fork is a CID there, or %s@fork/AUTHOR", op.Name, op.Name)}
		}
		if err != nil {
			return nil, err
		}
		op.Forks = append(op.Forks, whole)
	}
	return op, nil
}

func printMerged(c *cli.Context, out io.Writer, op *volume.Merge, res volume.Result) {
	if res.Merged == nil {
		return
	}
	conflicts := res.Merged.Conflicts
	if res.Created {
		if len(conflicts) > 0 {
			fmt.Fprintf(c.App.ErrWriter, "%d conflicts were merged with --%s\n", len(conflicts), op.Take)
		}
		printHead(out, res)
		return
	}
	w := columns(out)
	for _, k := range conflicts {
		fmt.Fprintf(w, "%s\t%s in the head\t%s in %s\n", quote(k.Path), did(k.Ours), did(k.Theirs), k.Fork)
	}
	w.Flush()
	fmt.Fprintf(c.App.ErrWriter, "%d forks, %d changes, %d conflicts: nothing was changed\n", len(res.Merged.Forks), res.Merged.Changed, len(conflicts))
	if len(conflicts) > 0 && op.Take == merge.None {
		fmt.Fprintln(c.App.ErrWriter, "  --ours, --theirs or --keep-both says what to take")
	}
}

func did(k diff.Kind) string {
	if k == "" {
		return "as it was"
	}
	return string(k)
}
