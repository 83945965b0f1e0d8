package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/ipfs/boxo/ipns"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/p2p/gateway"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/hydrate"
	"github.com/volary/volary/volume/api"
)

// metaPulled notes at a pin by what reference a snapshot was pulled.
const metaPulled = "pulled"

func pullCommand() *cli.Command {
	return command(cli.Command{
		Name:      "pull",
		Usage:     "bring all of a snapshot here, from another namespace too, and keep it",
		ArgsUsage: "REF",
		Description: "REF is a CID, /ipns/NAME or anything else that names a snapshot; `volary share` prints it elsewhere. Every block is\n" +
			"checked, whoever it comes from, and so is the signed record that says where /ipns/NAME is. Prints the CID. It can\n" +
			"be interrupted and run again: what came is not got twice. `volary pin rm` lets go of it.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "gateway", Aliases: []string{"g"}, Usage: "`URL` of a trustless HTTP gateway to get it from, before all other ways; repeatable"},
			&cli.StringFlag{Name: "tag", Usage: "`NAME` to give the snapshot as well"},
		},
		Action: pull,
	}, 1, 1)
}

type pullJSON struct {
	hydrateJSON
	Tag string `json:"tag,omitempty"`
}

func pull(c *cli.Context) error {
	if c.IsSet("tag") {
		if err := checkTag(c.String("tag")); err != nil {
			return err
		}
	}
	given, err := givenGateways(c)
	if err != nil {
		return err
	}
	if given != nil {
		defer given.Close()
	}
	host, err := openHost(c, create)
	if err != nil {
		return err
	}
	defer host.Close()
	if given != nil {
		host.Heads = headsBy{host.Heads, given}
	}
	if name := c.String("tag"); name != "" {
		if err := noVolume(c.Context, host.Volumes, name); err != nil {
			return err
		}
	}
	root, err := pinRef(c, host.Host)
	if err != nil {
		return err
	}
	return pullRoot(c, host, root, given)
}

// givenGateways are those of the flags, nil if there are none.
func givenGateways(c *cli.Context) (*gateway.Gateways, error) {
	if !c.IsSet("gateway") {
		return nil, nil
	}
	g, err := gateway.New(gateway.Options{URLs: c.StringSlice("gateway")})
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return g, nil
}

// pullRoot brings a root here and keeps it. What came is not collected before it is kept.
func pullRoot(c *cli.Context, host *openedHost, root cid.Cid, given *gateway.Gateways) error {
	s, err := host.Sessions.Session(c.Context)
	if err != nil {
		return err
	}
	defer s.Close()
	var from snapshot.Blocks = s
	whole, err := host.home.whole()
	if given != nil {
		from, whole = exchange.Through(snapshot.Local(s), either{given, s}), given.DAG
	}
	if err != nil {
		return err
	}
	st, err := hydrateWith(c, from, root, whole)
	if err != nil {
		return err
	}
	in := host.In(s)
	status, err := in.Pins.Status(c.Context, root)
	if err != nil {
		return err
	}
	if _, kept := status.Of(""); !kept {
		p := pinset.Pin{Root: root, Meta: map[string]string{metaPulled: c.Args().First()}}
		if err := in.Pins.Add(c.Context, p); err != nil {
			return err
		}
	}
	if name := c.String("tag"); name != "" {
		tags, err := in.Tags.Tags(c.Context)
		if err != nil {
			return err
		}
		if err := in.Tags.Tag(c.Context, name, root); err != nil {
			return err
		}
		if was, had := tags[name]; had && was != root {
			fmt.Fprintf(c.App.ErrWriter, "%s was %s\n", name, was)
		}
	}
	res := pullJSON{newHydrateJSON(root, st), c.String("tag")}
	return outputOf(c).object(res, func(w io.Writer) {
		fmt.Fprintln(w, res.Root)
		fmt.Fprintf(c.App.ErrWriter, "%d blocks, %s of them fetched\n", st.Blocks, bytesText(st.FetchedBytes))
	})
}

// either gets from the first source what it has, and the rest from the second.
type either struct {
	first  exchange.Source
	second snapshot.Blocks
}

func (e either) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		i := 0
		for b, err := range e.first.GetMany(ctx, cs...) {
			if err != nil && ctx.Err() == nil {
				if other, err2 := e.second.Get(ctx, cs[i]); err2 == nil {
					b, err = other, nil
				}
			}
			if i++; !yield(b, err) {
				return
			}
		}
	}
}

// headsBy asks gateways for the records of names that are no volumes of this host's namespace.
type headsBy struct {
	api.Heads
	gateways *gateway.Gateways
}

func (h headsBy) Signed(ctx context.Context, name string) (api.Signed, error) {
	s, err := h.Heads.Signed(ctx, name)
	id, notName := ipns.NameFromString(strings.TrimPrefix(name, "/ipns/"))
	if err == nil && s.Binding != nil || notName != nil || err != nil && !absent(err) {
		return s, err
	}
	given, givenErr := signedBy(ctx, h.gateways, id)
	if givenErr == nil && (err != nil || given.Sequence > s.Sequence) {
		return given, nil
	}
	if err != nil {
		return s, givenErr
	}
	return s, nil
}

// absent reports whether nobody who was asked has what was asked for.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, snapshot.ErrNotFetched)
}

// hydrateWith gets all of root through b, and shows how far that is.
func hydrateWith(c *cli.Context, b snapshot.Blocks, root cid.Cid, whole getWhole) (hydrate.Stats, error) {
	bar := newProgress(c, "fetching")
	defer bar.finish()
	last := uint64(0)
	st, err := hydrate.Fetch(c.Context, b, root, hydrate.Options{Whole: whole, Progress: func(st hydrate.Stats) {
		bar.add(st.FetchedBytes - last)
		last = st.FetchedBytes
	}})
	bar.finish()
	if err != nil && st.FetchedBlocks > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%d blocks came, %s; run it again for the rest\n", st.FetchedBlocks, bytesText(st.FetchedBytes))
	}
	return st, err
}

func newHydrateJSON(root cid.Cid, st hydrate.Stats) hydrateJSON {
	return hydrateJSON{root.String(), st.Blocks, st.FetchedBlocks, st.FetchedBytes}
}
