package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/api"
)

func logCommand() *cli.Command {
	return command(cli.Command{
		Name:      "log",
		Usage:     "list the kept snapshots, or the history of one",
		ArgsUsage: "[REF]",
		Description: "Without REF, lists every snapshot that is kept on this host, the newest first. With REF, lists it\n" +
			"and its ancestors; of those that are no longer kept, the CID and the time are all there is.",
		Flags:  logFlags(),
		Action: showLog,
	}, 0, 1)
}

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "list at most `N`"},
		&cli.BoolFlag{Name: "replicas", Usage: "say how many peers of the cluster hold each snapshot, of how many at least"},
	}
}

func showLog(c *cli.Context) error {
	if c.Int("limit") < 0 {
		return usagef("--limit is %d, less than nothing", c.Int("limit"))
	}
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	l := logger{c: c, host: host.Host, out: outputOf(c), left: c.Int("limit")}
	if c.Bool("replicas") {
		if l.replicas, err = heldForLines(c, host.Host); err != nil {
			return err
		}
	}
	if c.NArg() == 0 {
		err = l.kept()
	} else {
		err = l.history(c.Args().First())
	}
	if err == nil && l.unreadable > 0 {
		err = incompleteError{fmt.Sprintf("%d snapshots cannot be read\n`volary verify` says why, `volary rm` stops keeping one", l.unreadable)}
	}
	return err
}

type logger struct {
	c    *cli.Context
	host *api.Host
	out  output
	left int // lines still to print; 0: no limit

	replicas *held // nil: they are not shown

	unreadable int
}

func (l *logger) kept() error {
	var roots []cid.Cid
	seen := map[cid.Cid]bool{} // one may have several owners
	for pin, err := range l.host.Pins.All(l.c.Context) {
		if err != nil {
			return err
		}
		if !seen[pin.Root] {
			roots = append(roots, pin.Root)
		}
		seen[pin.Root] = true
	}
	tags, err := l.host.Tags.Tags(l.c.Context)
	if err != nil {
		return err
	}
	// What only a tag keeps has no place in the order of the pins: it comes last, by name.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(tags))) {
		if !slices.Contains(roots, tags[name]) {
			roots = slices.Insert(roots, 0, tags[name])
		}
	}
	for i := len(roots) - 1; i >= 0; i-- {
		if more, err := l.show(roots[i], nil); !more || err != nil {
			return err
		}
	}
	return nil
}

func (l *logger) history(ref string) error {
	t, err := openRef(l.c.Context, l.host, ref)
	if err != nil {
		return err
	}
	if more, err := l.show(t.root, nil); !more || err != nil || t.Commit == nil {
		return err
	}
	for a, err := range snapshot.History(l.c.Context, l.host.Blocks, t.Commit) {
		if err != nil {
			return err
		}
		if more, err := l.show(a.CID, &a); !more || err != nil {
			return err
		}
	}
	return nil
}

// show prints one snapshot; where its blocks are gone, what a descendant says of it.
func (l *logger) show(root cid.Cid, a *snapshot.Ancestor) (more bool, err error) {
	j := snapshotJSON{Parents: []string{}}
	s, err := tree.Open(l.c.Context, l.host.Blocks, root)
	switch {
	case err == nil:
		j = newSnapshotJSON(root, s.Commit)
	case a != nil:
		j.Commit, j.Sequence, j.Time = root.String(), a.Sequence, &a.Time
	case unreadable(err):
		// One bad snapshot is no reason not to list the others.
		j.Commit, j.Unreadable = root.String(), err.Error()
		l.unreadable++
	default:
		return false, err
	}
	if err := j.describe(l.c.Context, l.host, root); err != nil {
		return false, err
	}
	j.Replication = l.replicas.json(root)
	err = l.out.object(j, func(w io.Writer) { logText(w, root, j, s == nil, l.replicas != nil) })
	l.left--
	return l.left != 0, err
}

func logText(w io.Writer, root cid.Cid, j snapshotJSON, gone, replicas bool) {
	when := strings.Repeat(" ", len(time.DateTime))
	if j.Time != nil {
		when = timeText(*j.Time)
	}
	fmt.Fprintf(w, "%s  %s", root, when)
	switch {
	case j.Unreadable != "":
		fmt.Fprintf(w, "  unreadable: %s", quote(j.Unreadable))
	case gone:
		fmt.Fprint(w, "  gone")
	case j.Commit == "":
		fmt.Fprint(w, "  a tree without a commit")
	default:
		fmt.Fprintf(w, "  %d files, %s", j.Files, bytesText(j.Bytes))
	}
	if j.Source != "" {
		fmt.Fprintf(w, "  %s", quote(j.Source))
	}
	if j.Volume != "" {
		fmt.Fprintf(w, "  %s", quote(j.Volume))
	}
	if replicas {
		fmt.Fprintf(w, "  replicas %s", j.Replication.column())
	}
	if len(j.Tags) > 0 {
		fmt.Fprintf(w, "  (%s)", strings.Join(j.Tags, ", "))
	}
	if j.Message != "" {
		first, _, _ := strings.Cut(j.Message, "\n")
		fmt.Fprintf(w, "  %s", quote(first))
	}
	fmt.Fprintln(w)
}
