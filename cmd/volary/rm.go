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
			"can still be read, and `volary tag` keeps it again. What a volume keeps besides stays in its history.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "remove tagged snapshots too, with their tags, and states of volumes that no volume stands on"},
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
	var todo []removal
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
		pins, err := pinsToRemove(c, host, loc.root, status)
		if err != nil {
			return err
		}
		todo = append(todo, removal{removedJSON{loc.root.String(), tags}, loc.root, pins})
	}
	for _, r := range todo {
		if err := r.run(c, host); err != nil {
			return err
		}
	}
	return nil
}

// removal is what is to be done for one ref.
type removal struct {
	removedJSON
	root   cid.Cid
	owners []string // of the pins that go
}

func (r removal) run(c *cli.Context, host *openedHost) error {
	for _, name := range r.Tags {
		if err := host.Tags.Untag(c.Context, name); err != nil {
			return err
		}
	}
	for _, owner := range r.owners {
		if err := host.Pins.Remove(c.Context, r.root, owner); err != nil {
			return err
		}
	}
	return outputOf(c).line(r.removedJSON, "%s", r.Removed)
}

// pinsToRemove returns the owners of the pins that rm removes. What a volume keeps stays, or goes with --force if the
// volume does not stand on it.
func pinsToRemove(c *cli.Context, host *openedHost, root cid.Cid, status pinset.Status) (owners []string, _ error) {
	ofVolume := ""
	for _, p := range status.Pins {
		if isVolumes(p) {
			ofVolume = p.Name
		}
		if !isVolumes(p) || c.Bool("force") {
			owners = append(owners, p.Owner)
		}
	}
	_, people := status.Of("")
	switch {
	case ofVolume == "":
		return owners, nil
	case people && !c.Bool("force"):
		fmt.Fprintf(c.App.ErrWriter, "%s stays as %s\n", root, quote(ofVolume))
		return owners, nil
	}
	if err := notOfVolume(c, host, root); err != nil {
		return nil, err
	}
	if !c.Bool("force") {
		return nil, usagef("%s is %s, a state of a volume\nlet the volume's option keep decide, or use --force", root, quote(ofVolume))
	}
	return owners, nil
}

// isVolumes reports whether a pin is one of a volume's.
func isVolumes(p pinset.Pin) bool { return strings.HasPrefix(p.Owner, volume.PinOwner) }

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
