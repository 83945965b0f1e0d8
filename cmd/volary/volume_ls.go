package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

func volumeLsCommand() *cli.Command {
	return command(cli.Command{
		Name:  "ls",
		Usage: "list the volumes",
		Description: "HEAD is the beginning of the last snapshot's CID, which stands for it wherever a REF can; --json has all of it.\n" +
			"DIRTY is yes if something was changed since the last snapshot, perhaps back again: inspect looks closer. It is ? while\n" +
			"somebody works on the volume, and without a daemon. FAILED is when an automatic commit or exec-head failed\n" +
			"last, if none went well since, or the mount at the daemon's start, or the unmount after a container's end; inspect says\n" +
			"why. COMMITTED and SIZE are - for what other hosts made and nothing of is here. \"forked\" is a volume that several hosts changed without\n" +
			"hearing of each other: what some of them changed is not in its head, and inspect lists those states. REPLICAS, where\n" +
			"there is a cluster, is how many peers hold the last snapshot of how many at least, and ? if the cluster does not say\n" +
			"in time.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "trash", Usage: "also list removed volumes that can be taken back"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print names only"},
		},
		Action: onHost(readOnly, volumeLs),
	}, 0, 0)
}

func volumeLs(c *cli.Context, host *openedHost) error {
	names := c.Bool("quiet")
	infos, err := host.Volumes.List(c.Context, volume.ListOptions{Trash: c.Bool("trash"), Dirty: !names})
	if err != nil {
		return err
	}
	out := outputOf(c)
	w := columns(out.w)
	defer w.Flush()
	var replicas *held
	if !names {
		if replicas, err = heldForLines(c, host.Host); errors.Is(err, api.ErrNoCluster) {
			replicas = nil
		} else if err != nil {
			return err
		}
	}
	if !names && !out.json {
		header := "NAME\tHEAD\tSEQ\tCOMMITTED\tSIZE\tMOUNTED\tDIRTY\tFAILED"
		if replicas != nil {
			header += "\tREPLICAS"
		}
		fmt.Fprintln(w, header)
	}
	short := shortHeads(infos)
	for _, i := range infos {
		j := volumeJSON{i, replicas.json(i.Head.Cid)}
		err := out.object(j, func(io.Writer) {
			if names {
				fmt.Fprintln(w, i.Name)
				return
			}
			line := volumeLine(i, i.Head.String()[:short])
			if replicas != nil {
				line += "\t" + j.Replication.column()
			}
			fmt.Fprintln(w, line)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// volumeJSON is a volume, and where there is a cluster how often that holds its head.
type volumeJSON struct {
	volume.Info
	Replication *replicasJSON `json:"replication,omitempty"`
}

// shortHead is how much of a head is printed at least.
const shortHead = minAbbreviation + 4

// shortHeads is how much of the heads tells those apart that differ.
func shortHeads(infos []volume.Info) int {
	for n := shortHead; ; n++ {
		seen, clash := map[string]volume.CID{}, false
		for _, i := range infos {
			head := i.Head.String()
			if len(head) <= n {
				return len(head)
			}
			other, has := seen[head[:n]]
			clash = clash || has && other != i.Head
			seen[head[:n]] = i.Head
		}
		if !clash {
			return n
		}
	}
}

func volumeLine(i volume.Info, head string) string {
	committed, size, failed := "-", "-", "-"
	if !i.Time.IsZero() {
		committed, size = timeText(i.Time), bytesText(i.Bytes)
	}
	if i.Failure != nil {
		failed = timeText(i.Failure.Time)
	}
	dirty := "?"
	if i.Dirty != nil {
		dirty = map[bool]string{true: "yes", false: "no"}[*i.Dirty]
	}
	where := mountedText(i)
	switch {
	case i.Removed != nil:
		where, dirty = "removed "+timeText(*i.Removed), "no"
	case i.RemovedElsewhere:
		where += ", removed by another host"
	case i.Elsewhere:
		dirty = "no"
	}
	if f := i.Following; f != nil && f.Shown.Defined() {
		where += ", following"
	}
	if f := i.Following; f != nil && f.Last > 0 {
		where += fmt.Sprintf(", last %d kept", f.Last)
	}
	if l := i.Lease; l != nil && !l.Here {
		where += ", written by " + hostText(l)
	}
	if len(i.Forks) > 0 {
		where += ", forked"
	}
	return strings.Join([]string{i.Name, head, fmt.Sprint(i.Sequence), committed, size, where, dirty, failed}, "\t")
}

// mountedText says where people see a volume, or else that somebody does.
func mountedText(i volume.Info) string {
	var at []string
	for _, user := range i.Users {
		if dir, ok := strings.CutPrefix(user, volume.DirUser); ok {
			at = append(at, quote(dir))
		}
	}
	switch {
	case len(i.Users) == 0:
		return "no"
	case len(at) == 0:
		return "yes"
	}
	return strings.Join(at, ", ")
}

func volumeInspectCommand() *cli.Command {
	return command(cli.Command{
		Name:        "inspect",
		Usage:       "show all about a volume",
		ArgsUsage:   "NAME",
		Description: "NAME@fork/PEER shows the state that a host made and that is not in the head; see forks.",
		Action: onHost(readWrite, func(c *cli.Context, host *openedHost) error {
			if isForkRef(c.Args().First()) {
				return inspectFork(c, host)
			}
			i, err := host.Volumes.Inspect(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			j, err := withReplication(c, host, i)
			if err != nil {
				return err
			}
			return outputOf(c).object(j, func(out io.Writer) {
				inspectText(out, i)
				if r := j.Replication; r != nil {
					fmt.Fprint(out, "replicas of ")
					r.print(out)
				}
			})
		}),
	}, 1, 1)
}

// withReplication adds what each peer of the cluster says of a volume's head, if there is one that answers in time.
func withReplication(c *cli.Context, host *openedHost, i *volume.Info) (volumeJSON, error) {
	j := volumeJSON{Info: *i}
	ctx, done := context.WithTimeout(c.Context, statusTime)
	defer done()
	st, err := host.Replicas.Status(ctx, i.Head.Cid)
	if errors.Is(err, api.ErrNoCluster) {
		return j, nil
	}
	if err != nil {
		fmt.Fprintf(c.App.ErrWriter, "replicas are not known: %v\n", err)
		return j, nil
	}
	queued, err := queuedRoots(c.Context, host.Host)
	r := newReplicasJSON(i.Head.Cid, st, queued)
	j.Replication = &r
	return j, err
}

func inspectText(out io.Writer, i *volume.Info) {
	w := columns(out)
	defer w.Flush()
	fmt.Fprintf(w, "name\t%s\nhead\t%s\nsequence\t%d\n", i.Name, i.Head, i.Sequence)
	if !i.Created.IsZero() {
		fmt.Fprintf(w, "here since\t%s\n", timeText(i.Created))
	}
	if !i.Time.IsZero() {
		fmt.Fprintf(w, "committed\t%s\nsize\t%d files, %s\n", timeText(i.Time), i.Files, bytesText(i.Bytes))
	}
	if i.Mountpoint != "" {
		fmt.Fprintf(w, "mounted\t%s, by %s\n", i.Mountpoint, strings.Join(i.Users, ", "))
	}
	followingText(w, i)
	if l := i.Lease; l != nil {
		fmt.Fprintf(w, "lease\t%s\n", leaseText(l))
	}
	if i.RemovedElsewhere {
		fmt.Fprintln(w, "removed\tby another host; it stays here until it is unmounted and its changes are committed")
	}
	for _, f := range i.Forks {
		by := "host " + f.Author
		if f.Here {
			by = "this host"
		}
		fmt.Fprintf(w, "fork\t%s, state %d, made %s by %s: its changes are not in the head\n", f.Head, f.Sequence, timeText(f.Time), by)
	}
	switch {
	case i.Elsewhere:
		fmt.Fprintln(w, "elsewhere\tother hosts have it; this one has nothing of its own")
	case i.Dirty == nil:
		fmt.Fprintln(w, "changes\tunknown: there is no daemon, or the base cannot be read")
	case *i.Dirty:
		fmt.Fprintf(w, "changes\tnot committed, on %s\n", i.Base)
	}
	if i.Used != nil {
		fmt.Fprintf(w, "space\t%s\n", sizeText(i))
	}
	if f := i.Failure; f != nil {
		fmt.Fprintf(w, "failed\t%s, %s: %s\n", timeText(f.Time), f.What, quote(f.Error))
	}
	for _, key := range slices.Sorted(maps.Keys(i.Options)) {
		by := ""
		if _, here := i.OptionsSet[key]; !here {
			by = ", by its commits"
		}
		fmt.Fprintf(w, "option\t%s=%s%s\n", key, i.Options[key], by)
	}
	for _, tag := range slices.Sorted(maps.Keys(i.Tags)) {
		fmt.Fprintf(w, "tag\t%s %s\n", tag, i.Tags[tag])
	}
}

// hostText names a host by its machine's name, if it says that.
func hostText(l *volume.Lease) string {
	if l.Host == "" {
		return l.Peer
	}
	return l.Host
}

func leaseText(l *volume.Lease) string {
	if l.Here {
		return "this host writes to it"
	}
	text := fmt.Sprintf("host %s (%s) writes to it, until %s unless it is heard of again", l.Host, l.Peer, timeText(l.Until))
	if l.Both {
		text += "; it is mounted for writing here as well, and what is committed here is a fork"
	}
	return text
}

// sizeText is for volumes of which is known what their changes take.
func sizeText(i *volume.Info) string {
	switch text := "changes take " + bytesText(*i.Used); {
	case i.Size == 0:
		return text
	case *i.SizeEnforced:
		return text + " of " + bytesText(i.Size)
	default:
		return text + " of " + bytesText(i.Size) + ", which is only watched here: more is not refused"
	}
}
