package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/volume/api"
)

func pinCommand() *cli.Command {
	return &cli.Command{
		Name:  "pin",
		Usage: "say what is kept, and see how far the cluster has got with it",
		Description: "What this host keeps is replicated by the cluster of config.toml, if there is one. The cluster is told in the\n" +
			"background: what it was not told yet is `queued`.",
		Subcommands: []*cli.Command{
			pinLsCommand(), pinAddCommand(), pinRmCommand(), pinStatusCommand(), pinWaitCommand(), pinRecoverCommand(),
		},
	}
}

func pinLsCommand() *cli.Command {
	return command(cli.Command{
		Name:        "ls",
		Usage:       "list what this host keeps, the oldest first",
		Description: "A root has a line for each of its owners: people, or a volume. `queued` is what the cluster was not told yet.",
		Action:      onHost(readOnly, listPins),
	}, 0, 0)
}

type pinJSON struct {
	Root    string    `json:"root"`
	Owner   string    `json:"owner,omitempty"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"`
	Queued  bool      `json:"queued,omitempty"` // the cluster was not told yet
}

func listPins(c *cli.Context, host *openedHost) error {
	queued, err := queuedRoots(c.Context, host.Host)
	if err != nil {
		return err
	}
	out := outputOf(c)
	for p, err := range host.Pins.All(c.Context) {
		if err != nil {
			return err
		}
		_, waits := queued[p.Root]
		j := pinJSON{p.Root.String(), p.Owner, jsonName(p.Name), p.Created, waits}
		err := out.object(j, func(w io.Writer) {
			note := ""
			if waits {
				note = "  queued"
			}
			fmt.Fprintf(w, "%s  %s  %s%s\n", j.Root, timeText(p.Created), cmp.Or(quoted(p.Name), quoted(p.Owner), "people"), note)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// quoted is a name safe for a line, or nothing.
func quoted(name string) string {
	if name == "" {
		return ""
	}
	return quote(name)
}

// queuedRoots are those that the cluster is to pin and was not told yet. Without a cluster there are none.
func queuedRoots(ctx context.Context, host *api.Host) (map[cid.Cid]api.Waiting, error) {
	all, err := host.Replicas.Waiting(ctx)
	if err != nil && !errors.Is(err, api.ErrNoCluster) {
		return nil, err
	}
	queued := map[cid.Cid]api.Waiting{}
	for _, w := range all {
		if _, older := queued[w.Root]; !older && w.Op == "pin" {
			queued[w.Root] = w
		}
	}
	return queued, nil
}

func pinAddCommand() *cli.Command {
	return command(cli.Command{
		Name:      "add",
		Usage:     "keep a snapshot, whatever becomes of the volume or tag that it has now",
		ArgsUsage: "REF",
		Description: "All of it must be here, or within reach of the Kubo daemon. Prints its CID. What `snapshot` and `import` made is\n" +
			"kept already; with flags it is from then on kept as they say, and without any as the settings say.",
		Flags:  placementFlags(),
		Action: onHost(readWrite, addPin),
	}, 1, 1)
}

func addPin(c *cli.Context, host *openedHost) error {
	root, err := pinRef(c, host.Host)
	if err != nil {
		return err
	}
	p, err := placedPin(c, host, root)
	if err != nil {
		return err
	}
	if err := pinWhole(c.Context, host.Host, p); err != nil {
		return err
	}
	return outputOf(c).line(map[string]string{"root": root.String()}, "%s", root)
}

// pinRef is the root that the verb's argument names.
func pinRef(c *cli.Context, host *api.Host) (cid.Cid, error) {
	loc, err := resolve(c.Context, host, c.Args().First())
	if err == nil && loc.path != "" {
		err = usagef("%s is a part of a snapshot; only whole ones are kept", quote(c.Args().First()))
	}
	return loc.root, err
}

// placedPin is what pin add asks for: beside what was noted at the pin that there is, if any.
func placedPin(c *cli.Context, host *openedHost, root cid.Cid) (pinset.Pin, error) {
	meta, err := parsePlacement(c)
	if err != nil {
		return pinset.Pin{}, err
	}
	if len(meta) > 0 {
		if _, err := host.Replicas.Waiting(c.Context); err != nil {
			return pinset.Pin{}, err
		}
	}
	status, err := host.Pins.Status(c.Context, root)
	if err != nil {
		return pinset.Pin{}, err
	}
	p, _ := status.Of("")
	for k, v := range p.Meta {
		if _, is := placed(p.Meta)[k]; !is {
			meta[k] = v
		}
	}
	p.Root, p.Meta = root, meta
	if c.IsSet("name") {
		p.Name = c.String("name")
	}
	return p, nil
}

// pinWhole keeps a root in the name of people, if all of it is there.
func pinWhole(ctx context.Context, host *api.Host, p pinset.Pin) error {
	s, err := host.Sessions.Session(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := checkWhole(ctx, s, p.Root); err != nil {
		return err
	}
	return host.In(s).Pins.Add(ctx, p)
}

func pinRmCommand() *cli.Command {
	return command(cli.Command{
		Name:      "rm",
		Usage:     "take back `pin add`, `snapshot` or `import`; tags and volumes keep what they have",
		ArgsUsage: "REF",
		Action:    onHost(readWrite, removePin),
	}, 1, 1)
}

func removePin(c *cli.Context, host *openedHost) error {
	root, err := pinRef(c, host.Host)
	if err != nil {
		return err
	}
	status, err := host.Pins.Status(c.Context, root)
	if err != nil {
		return err
	}
	if _, kept := status.Of(""); !kept {
		return fmt.Errorf("%s: %w", root, pinset.ErrNotPinned)
	}
	if err := host.Pins.Remove(c.Context, root, ""); err != nil {
		return err
	}
	return outputOf(c).line(removedJSON{Removed: root.String()}, "%s", root)
}

func pinStatusCommand() *cli.Command {
	return command(cli.Command{
		Name:      "status",
		Usage:     "ask the cluster's peers how far they are with a snapshot, or with all",
		ArgsUsage: "[REF]",
		Description: "With a REF there is a line for each peer, in the cluster's own terms. Without one there is a line for each snapshot that\n" +
			"this host keeps.",
		Action: onHost(readOnly, pinStatus),
	}, 0, 1)
}

type replicasJSON struct {
	Root     string        `json:"root"`
	State    string        `json:"state"` // of the pin: unpinned, queued, pinning or pinned
	Have     int           `json:"have"`
	Min      int           `json:"min,omitempty"`
	Max      int           `json:"max,omitempty"`
	Replicas []replicaJSON `json:"replicas,omitempty"`
	Queue    *queueJSON    `json:"queue,omitempty"`
}

type replicaJSON struct {
	Peer     string    `json:"peer"`
	Name     string    `json:"name,omitempty"`
	Pinned   bool      `json:"pinned"`
	State    string    `json:"state"`
	Error    string    `json:"error,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Attempts int       `json:"attempts,omitempty"`
}

type queueJSON struct {
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error,omitempty"`
}

// stateQueued is the state of a pin that the cluster was not told yet.
const stateQueued = "queued"

func newReplicasJSON(root cid.Cid, st pinset.Status, queued map[cid.Cid]api.Waiting) replicasJSON {
	j := replicasJSON{Root: root.String(), State: string(st.State), Min: st.Min, Max: st.Max}
	for _, r := range st.Replicas {
		j.Replicas = append(j.Replicas, replicaJSON{r.Peer, jsonName(r.Name), r.Pinned, r.State, r.Error, r.Since, r.Attempts})
		if r.Pinned {
			j.Have++
		}
	}
	if w, ok := queued[root]; ok {
		j.State, j.Queue = stateQueued, &queueJSON{w.Since, w.Attempts, w.Error}
	}
	return j
}

// summary is the pin in one line.
func (j replicasJSON) summary() string {
	s := j.State
	if j.State == string(pinset.Pinning) || j.State == string(pinset.Pinned) {
		s += fmt.Sprintf(", %d replicas", j.Have)
		if j.Min > 0 {
			s += fmt.Sprintf(" of %d-%d", j.Min, j.Max)
		}
	}
	if q := j.Queue; q != nil {
		s += " since " + humanize.Time(q.Since)
		if q.Error != "" {
			s += fmt.Sprintf(", tried %d times: %s", q.Attempts, firstLine(q.Error))
		}
	}
	return s
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// print writes the pin, and a line for each peer.
func (j replicasJSON) print(w io.Writer) {
	fmt.Fprintf(w, "%s  %s\n", j.Root, j.summary())
	t := columns(w)
	defer t.Flush()
	for _, r := range j.Replicas {
		since := ""
		if !r.Since.IsZero() {
			since = timeText(r.Since)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", cmp.Or(quoted(r.Name), r.Peer), r.State, since, firstLine(r.Error))
	}
}

func pinStatus(c *cli.Context, host *openedHost) error {
	if c.NArg() == 0 {
		return allPinStatus(c, host)
	}
	root, err := pinRef(c, host.Host)
	if err != nil {
		return err
	}
	st, err := host.Replicas.Status(c.Context, root)
	if err != nil {
		return err
	}
	return printReplicas(c, host, root, st)
}

// printReplicas prints what the cluster said of a root; that it is not to have it is an error.
func printReplicas(c *cli.Context, host *openedHost, root cid.Cid, st pinset.Status) error {
	queued, err := queuedRoots(c.Context, host.Host)
	if err != nil {
		return err
	}
	j := newReplicasJSON(root, st, queued)
	if j.State == string(pinset.Unpinned) {
		return fmt.Errorf("%s in the cluster: %w", root, pinset.ErrNotPinned)
	}
	return outputOf(c).object(j, j.print)
}

func allPinStatus(c *cli.Context, host *openedHost) error {
	held, err := heldRoots(c.Context, host.Host)
	if err != nil {
		return err
	}
	seen := map[cid.Cid]bool{}
	for p, err := range host.Pins.All(c.Context) {
		if err != nil {
			return err
		}
		if seen[p.Root] {
			continue
		}
		seen[p.Root] = true
		j := held.of(p.Root)
		if err := outputOf(c).line(j, "%s  %s", j.Root, j.summary()); err != nil {
			return err
		}
	}
	return nil
}

func pinRecoverCommand() *cli.Command {
	return command(cli.Command{
		Name:      "recover",
		Usage:     "have the cluster's peers try again what went wrong with a snapshot",
		ArgsUsage: "REF",
		Action: onHost(readWrite, func(c *cli.Context, host *openedHost) error {
			root, err := pinRef(c, host.Host)
			if err != nil {
				return err
			}
			st, err := host.Replicas.Recover(c.Context, root)
			if err != nil {
				return err
			}
			return printReplicas(c, host, root, st)
		}),
	}, 1, 1)
}
