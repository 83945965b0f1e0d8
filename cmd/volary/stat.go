package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/api"
)

func statCommand() *cli.Command {
	return command(cli.Command{
		Name:      "stat",
		Usage:     "describe a snapshot, or a file in one",
		ArgsUsage: "REF[/PATH]",
		Action:    stat,
	}, 1, 1)
}

// snapshotJSON is a snapshot in the output of stat, log and import.
type snapshotJSON struct {
	Commit      string            `json:"commit,omitempty"` // absent for a tree that came without one
	Tree        string            `json:"tree"`
	Meta        string            `json:"meta,omitempty"`
	Parents     []string          `json:"parents"`
	Sequence    uint64            `json:"sequence"`
	Time        *time.Time        `json:"time,omitempty"`
	Files       uint64            `json:"files"`
	Dirs        uint64            `json:"dirs"`
	Symlinks    uint64            `json:"symlinks"`
	Others      uint64            `json:"others"`
	Bytes       uint64            `json:"bytes"`
	Author      string            `json:"author,omitempty"`
	Message     string            `json:"message,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Chunker     string            `json:"chunker,omitempty"`
	Profile     string            `json:"profile,omitempty"`
	Consistency string            `json:"consistency,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
	Source      string            `json:"source,omitempty"` // directory it was made from, on this host
	Volume      string            `json:"volume,omitempty"` // state of a volume it is kept for, on this host
	Kept        bool              `json:"kept"`
	Own         bool              `json:"own"`                   // made on this host
	Unreadable  string            `json:"unreadable,omitempty"`  // why nothing more is known
	Replication *replicasJSON     `json:"replication,omitempty"` // only of log --replicas
}

func newSnapshotJSON(c cid.Cid, commit *snapshot.Commit) snapshotJSON {
	if commit == nil {
		return snapshotJSON{Tree: c.String(), Parents: []string{}}
	}
	j := snapshotJSON{
		Commit: c.String(), Tree: commit.Tree.String(), Parents: []string{}, Sequence: commit.Sequence, Time: &commit.Time,
		Files: commit.Stats.Files, Dirs: commit.Stats.Dirs, Symlinks: commit.Stats.Symlinks,
		Others: commit.Stats.Others, Bytes: commit.Stats.Bytes,
		Author: commit.Author, Message: commit.Message, Labels: commit.Labels,
		Chunker: commit.Import.Chunker, Profile: commit.Import.Profile, Consistency: string(commit.Consistency),
	}
	if commit.Meta.Defined() {
		j.Meta = commit.Meta.String()
	}
	for _, p := range commit.Parents {
		j.Parents = append(j.Parents, p.String())
	}
	return j
}

// describe adds what only this host knows of a snapshot.
func (j *snapshotJSON) describe(ctx context.Context, host *api.Host, c cid.Cid) error {
	status, err := host.Pins.Status(ctx, c)
	if err != nil {
		return err
	}
	j.Kept = status.State != pinset.Unpinned
	for _, p := range status.Pins {
		if source := p.Meta[metaSource]; source != "" {
			j.Source = source
		}
		if isVolumes(p) {
			j.Volume = p.Name
		}
	}
	if j.Own, err = host.Origins.Own(ctx, c); err != nil {
		return err
	}
	tags, err := tagsOf(ctx, host, c)
	j.Tags = tags
	j.Kept = j.Kept || len(tags) > 0
	return err
}

func stat(c *cli.Context) error {
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	t, err := openRef(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	if t.path != "" || t.Commit == nil && !t.Root().IsDir() {
		return statEntry(c, t)
	}
	j := newSnapshotJSON(t.root, t.Commit)
	if t.Commit == nil {
		if err := countForeign(c.Context, t, &j); err != nil {
			return err
		}
	}
	if err := j.describe(c.Context, host.Host, t.root); err != nil {
		return err
	}
	return outputOf(c).object(j, func(w io.Writer) { snapshotText(w, j) })
}

// countForeign counts what a tree without a commit holds; nothing says so but a walk.
func countForeign(ctx context.Context, t target, j *snapshotJSON) error {
	if err := t.CheckSize(ctx, "", tree.Limits{}); err != nil {
		return err
	}
	for l, err := range t.Walk(ctx, "", tree.Limits{}) {
		if err != nil {
			return err
		}
		switch {
		case l.IsDir():
			j.Dirs++
		case l.Target != "":
			j.Symlinks++
		default:
			j.Files++
			j.Bytes += l.Size
		}
	}
	return nil
}

func snapshotText(out io.Writer, j snapshotJSON) {
	w := columns(out)
	defer w.Flush()
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("commit", j.Commit)
	row("tree", j.Tree)
	row("meta", j.Meta)
	for _, p := range j.Parents {
		row("parent", p)
	}
	if j.Time != nil {
		row("time", timeText(*j.Time))
	}
	row("content", fmt.Sprintf("%d files, %d directories, %d symlinks, %d others, %s", j.Files, j.Dirs, j.Symlinks, j.Others, bytesText(j.Bytes)))
	row("author", quote(j.Author))
	row("message", quote(j.Message))
	for k, v := range j.Labels {
		row("label", quote(k+"="+v))
	}
	row("built", quote(strings.TrimSpace(j.Profile+" "+j.Chunker)))
	row("consistency", j.Consistency)
	for _, t := range j.Tags {
		row("tag", t)
	}
	row("source", quote(j.Source))
	row("kept", fmt.Sprint(j.Kept))
}

// statJSON is one entry in full.
type statJSON struct {
	entryJSON
	Xattrs map[string]string `json:"xattrs,omitempty"` // values in base64
	Leader string            `json:"leader,omitempty"` // path of the file this is a hardlink of
	Chunks uint64            `json:"chunks,omitempty"`
}

func statEntry(c *cli.Context, t target) error {
	e, err := t.entry(c.Context)
	if err != nil {
		return err
	}
	j := statJSON{entryJSON: newEntryJSON(t.path, e)}
	xattrs, err := t.Xattrs(c.Context, e)
	if err != nil {
		return err
	}
	for _, x := range xattrs {
		if j.Xattrs == nil {
			j.Xattrs = map[string]string{}
		}
		j.Xattrs[jsonName(x.Name)] = base64.StdEncoding.EncodeToString(x.Value)
	}
	leader, _, err := t.Leader(c.Context, t.path)
	if err != nil {
		return err
	}
	j.Leader = jsonName(leader)
	if j.Type == "file" {
		for _, err := range t.Chunks(c.Context, e) {
			if err != nil {
				return err
			}
			j.Chunks++
		}
	}
	return outputOf(c).object(j, func(out io.Writer) {
		w := columns(out)
		defer w.Flush()
		fmt.Fprintf(w, "path\t%s\n", quote(t.path))
		listing := modeText(e.Attr)
		fmt.Fprintf(w, "type\t%s\nmode\t%s\nowner\t%d:%d\nsize\t%d\nmtime\t%s\n", j.Type, listing, e.UID, e.GID, e.Size, e.Mtime().Local().Format(time.RFC3339Nano))
		for name, text := range map[string]string{"cid": j.CID, "target": quote(e.Target), "device": j.Device, "hardlink of": quote(leader)} {
			if text != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, text)
			}
		}
		for _, x := range xattrs {
			fmt.Fprintf(w, "xattr\t%s=%s\n", quote(x.Name), quote(string(x.Value)))
		}
	})
}
