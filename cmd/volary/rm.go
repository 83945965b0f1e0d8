package main

import (
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/volume"
)

func rmCommand() *cli.Command {
	return command(cli.Command{
		Name:      "rm",
		Usage:     "stop keeping snapshots",
		ArgsUsage: "REF...",
		Description: "The blocks that no other snapshot needs go with the next `volary gc`; until then a removed snapshot\n" +
			"can still be read, and `volary tag` keeps it again.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "remove tagged snapshots too, with their tags"},
		},
		Action: remove,
	}, 1, -1)
}

type removedJSON struct {
	Removed string   `json:"removed"`
	Tags    []string `json:"tags,omitempty"`
}

func remove(c *cli.Context) error {
	host, err := openHost(c, readWrite)
	if err != nil {
		return err
	}
	defer host.Close()
	// All refs are resolved and checked before the first is removed.
	var todo []removedJSON
	var targets []located
	for _, ref := range c.Args().Slice() {
		loc, err := resolve(c.Context, host.Host, ref)
		if err != nil {
			return err
		}
		if loc.path != "" {
			return usagef("%s is a part of a snapshot; only whole ones can be removed", quote(ref))
		}
		status, err := host.Pins.Status(c.Context, loc.root)
		if err != nil {
			return err
		}
		tags, err := tagsOf(c.Context, host.Host, loc.root)
		if err != nil {
			return err
		}
		if status.State == pinset.Unpinned && len(tags) == 0 {
			return fmt.Errorf("%s: %w", loc.root, pinset.ErrNotPinned)
		}
		if len(tags) > 0 && !c.Bool("force") {
			return usagef("%s has the tag %s\ndelete it with `volary tag --delete %s`, or use --force", loc.root, strings.Join(tags, ", "), tags[0])
		}
		if err := notOfVolume(c, host, loc.root); err != nil {
			return err
		}
		todo, targets = append(todo, removedJSON{loc.root.String(), tags}), append(targets, loc)
	}
	out := outputOf(c)
	for i, r := range todo {
		for _, name := range r.Tags {
			if err := host.Tags.Untag(c.Context, name); err != nil {
				return err
			}
		}
		if err := host.Pins.Remove(c.Context, targets[i].root); err != nil {
			return err
		}
		if err := out.line(r, "%s", r.Removed); err != nil {
			return err
		}
	}
	return nil
}

// notOfVolume refuses to remove what a volume stands on.
func notOfVolume(c *cli.Context, host *openedHost, root cid.Cid) error {
	volumes, err := host.Volumes.List(c.Context, volume.ListOptions{Trash: true})
	if err != nil {
		return err
	}
	for _, v := range volumes {
		part := ""
		switch {
		case v.Head.Equals(root):
			part = "head"
		case v.Base.Equals(root):
			part = "base of the changes"
		}
		for tag, tagged := range v.Tags {
			if tagged.Equals(root) {
				part = "tag " + tag
			}
		}
		if part != "" {
			return usagef("%s is the %s of the volume %s\nremove the volume, `volary volume rm`, or let its option keep decide", root, part, quote(v.Name))
		}
	}
	return nil
}
