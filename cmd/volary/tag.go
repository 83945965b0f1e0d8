package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

func tagCommand() *cli.Command {
	return command(cli.Command{
		Name:      "tag",
		Usage:     "give a snapshot a name, or list the names",
		ArgsUsage: "[REF NAME]",
		Description: "Without arguments, lists all tags. A tagged snapshot is kept until the tag is moved or deleted.\n" +
			"A tag can stand wherever a REF can. One that exists is moved, and where it was is said on standard error.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "delete", Aliases: []string{"d"}, Usage: "delete the tag NAME, not the snapshot"},
		},
		Action: tag,
	}, 0, 2)
}

var tagName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func checkTag(name string) error {
	if !tagName.MatchString(name) {
		return usagef("%q cannot be a tag\na tag is letters, digits, '.', '_' and '-', at most 128, and begins with a letter or digit", name)
	}
	if _, err := cid.Decode(name); err == nil {
		return usagef("%q cannot be a tag: it is a CID", name)
	}
	return nil
}

// noVolume refuses a tag that would be taken for a volume.
func noVolume(ctx context.Context, vs api.Volumes, name string) error {
	if volume.CheckName(name) != nil {
		return nil
	}
	_, err := vs.Resolve(ctx, name)
	switch {
	case err == nil:
		return fmt.Errorf("%q: %w: it is a volume\nto name a state of a volume: `volary volume tag`", name, volume.ErrTaken)
	case errors.Is(err, volume.ErrNotFound):
		return nil
	}
	return err
}

type tagJSON struct {
	Tag      string `json:"tag"`
	Root     string `json:"root"`
	Previous string `json:"previous,omitempty"` // where the tag was before it was moved
}

func tag(c *cli.Context) error {
	switch {
	case c.Bool("delete") && c.NArg() != 1:
		return usagef("tag --delete takes one NAME")
	case !c.Bool("delete") && c.NArg() == 1:
		return usagef("tag takes a REF and a NAME, or nothing to list the tags\nto delete a tag: `volary tag --delete %s`", c.Args().First())
	}
	mode := readWrite
	if c.NArg() == 0 {
		mode = readOnly
	}
	host, err := openHost(c, mode)
	if err != nil {
		return err
	}
	defer host.Close()
	switch c.NArg() {
	case 0:
		return listTags(c, host.Host)
	case 1:
		name := c.Args().First()
		if err := host.Tags.Untag(c.Context, name); err != nil {
			return err
		}
		return outputOf(c).object(map[string]string{"deleted": name}, func(io.Writer) {})
	}
	name := c.Args().Get(1)
	if err := checkTag(name); err != nil {
		return err
	}
	t, err := openRef(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	if t.path != "" {
		return usagef("%s is a part of a snapshot; only whole ones have tags", quote(c.Args().First()))
	}
	tags, err := host.Tags.Tags(c.Context)
	if err != nil {
		return err
	}
	if err := tagWhole(c.Context, host.Host, name, t.root); err != nil {
		return err
	}
	done := tagJSON{Tag: name, Root: t.root.String()}
	if was, had := tags[name]; had && was != t.root {
		done.Previous = was.String()
		fmt.Fprintf(c.App.ErrWriter, "%s was %s\n", name, was)
	}
	return outputOf(c).object(done, func(io.Writer) {})
}

// tagWhole tags a root. If nothing keeps it so far, a collection may have taken parts of it: then all of it is
// looked for, in a session that keeps what it finds.
func tagWhole(ctx context.Context, host *api.Host, name string, root cid.Cid) error {
	s, err := host.Sessions.Session(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	status, err := host.Pins.Status(ctx, root)
	if err != nil {
		return err
	}
	tags, err := tagsOf(ctx, host, root)
	if err != nil {
		return err
	}
	if status.State == pinset.Unpinned && len(tags) == 0 {
		if err := checkWhole(ctx, s, root); err != nil {
			return err
		}
	}
	return host.In(s).Tags.Tag(ctx, name, root)
}

// checkWhole looks for all of a root, in a session that keeps what it finds.
func checkWhole(ctx context.Context, s api.Session, root cid.Cid) error {
	return snapshot.WalkDAG(ctx, s, []cid.Cid{root}, func(c cid.Cid, _ blocks.Block, err error) error {
		if err != nil {
			return fmt.Errorf("%s is not whole: %s: %w", root, c, err)
		}
		return nil
	})
}

func listTags(c *cli.Context, host *api.Host) error {
	tags, err := host.Tags.Tags(c.Context)
	if err != nil {
		return err
	}
	out := outputOf(c)
	w := columns(out.w)
	defer w.Flush()
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		j := tagJSON{Tag: name, Root: tags[name].String()}
		if err := out.object(j, func(io.Writer) { fmt.Fprintf(w, "%s\t%s\n", j.Tag, j.Root) }); err != nil {
			return err
		}
	}
	return nil
}

func tagsOf(ctx context.Context, host *api.Host, root cid.Cid) ([]string, error) {
	tags, err := host.Tags.Tags(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for name, c := range tags {
		if c == root {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
