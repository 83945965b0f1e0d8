package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/volume"
)

// Notes at a pin that say how the cluster is to keep it, instead of as the settings say.
const (
	metaReplicas = "replicas" // MIN-MAX
	metaExpire   = "expire"   // a time of RFC 3339
	metaAllocate = "allocate" // peers by name or ID, and tags as KEY=VALUE, separated by commas
)

// placementFlags are for a pin that is to be kept in a way of its own.
func placementFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "what people call it: `TEXT`"},
		&cli.GenericFlag{Name: "replicas", Value: new(replicaRange), Usage: "how often the cluster is to hold it: `MIN-MAX`"},
		&cli.StringFlag{Name: "expire", Usage: "when the cluster lets go of it: a `TIME` such as 2026-12-24T18:00:00Z, or how long from now, such as 72h; this host keeps it"},
		&cli.StringSliceFlag{Name: "allocate", Usage: "`PEER` of the cluster, by name or ID, or a KEY=VALUE of its tags, that is to hold it before others; may be repeated"},
	}
}

// replicaRange is MIN-MAX as the flag of one verb. The flag of all verbs that has this name is text, and is another.
type replicaRange string

// Set is for cli.Generic.
func (r *replicaRange) Set(text string) error {
	_, err := volume.ParseReplicas(text)
	*r = replicaRange(text)
	return err
}

// Get is for flag.Getter, which the cli package wants of flags whose type it does not know.
func (r *replicaRange) Get() any { return r }

func (r *replicaRange) String() string { return string(*r) }

// parsePlacement reads the flags of placementFlags into notes at a pin.
func parsePlacement(c *cli.Context) (map[string]string, error) {
	meta := map[string]string{}
	if r, given := c.Generic("replicas").(*replicaRange); given && *r != "" {
		meta[metaReplicas] = string(*r)
	}
	if text := c.String("expire"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if d, err2 := time.ParseDuration(text); err2 == nil {
			at, err = time.Now().Add(d), nil
		}
		if err != nil || !at.After(time.Now()) {
			return nil, usagef("--expire %s is no time to come, such as 2026-12-24T18:00:00Z or 72h", quote(text))
		}
		meta[metaExpire] = at.UTC().Format(time.RFC3339)
	}
	if list := nonEmpty(c.StringSlice("allocate")); len(list) > 0 {
		meta[metaAllocate] = strings.Join(list, ",")
	}
	if _, _, err := placementOf(meta, cluster.Placement{}); err != nil {
		return nil, usageError{err.Error()}
	}
	return meta, nil
}

// placementOf is how a pin with such notes is to be kept, and the peers that it names. The rest is as in p.
func placementOf(meta map[string]string, p cluster.Placement) (_ cluster.Placement, peers []string, _ error) {
	if text := meta[metaReplicas]; text != "" {
		r, err := volume.ParseReplicas(text)
		if err != nil {
			return p, nil, err
		}
		p.Min, p.Max = r.Min, r.Max
	}
	if text := meta[metaExpire]; text != "" {
		var err error
		if p.Expire, err = time.Parse(time.RFC3339, text); err != nil {
			return p, nil, err
		}
	}
	for _, one := range nonEmpty(strings.Split(meta[metaAllocate], ",")) {
		key, value, tag := strings.Cut(one, "=")
		if !tag {
			peers = append(peers, one)
			continue
		}
		p.Tags = maps.Clone(p.Tags)
		if p.Tags == nil {
			p.Tags = map[string]string{}
		}
		p.Tags[key] = value
	}
	return p, peers, nil
}

// placed are those notes at a pin that say how it is to be kept.
func placed(meta map[string]string) map[string]string {
	args := map[string]string{}
	for _, key := range []string{metaReplicas, metaExpire, metaAllocate} {
		if value, given := meta[key]; given {
			args[key] = value
		}
	}
	return args
}

// peersTime is how long a pin waits for the cluster to say which peers there are.
const peersTime = 3 * time.Second

// checkPlacement refuses a pin that the peers that there are cannot keep as its notes ask for. While the cluster is
// away nobody knows, and the queue takes it.
func (r *remote) checkPlacement(ctx context.Context, p pinset.Pin) error {
	args := placed(p.Meta)
	if len(args) == 0 {
		return nil
	}
	place, names, err := placementOf(args, cluster.Placement{})
	if err != nil {
		return fmt.Errorf("pin %s: %w: %w", p.Root, err, volume.ErrInvalid)
	}
	peers, err := r.peersFor(ctx, place.Min)
	if err != nil {
		return fmt.Errorf("pin %s: %w", p.Root, err)
	}
	if peers == nil {
		return nil
	}
	_, err = peerIDs(names, peers)
	return err
}

// peersFor are the peers that there are, if they can hold something as often as it is to be held at least; nil while the
// cluster is away.
func (r *remote) peersFor(ctx context.Context, least int) ([]cluster.Peer, error) {
	ctx, done := context.WithTimeout(ctx, peersTime)
	defer done()
	peers, err := r.cluster.Peers(ctx)
	if errors.Is(err, pinset.ErrUnavailable) || ctx.Err() != nil {
		return nil, nil
	}
	if err == nil && least > len(peers) {
		err = fmt.Errorf("%d replicas at least, and the cluster has %d peers: %w", least, len(peers), volume.ErrInvalid)
	}
	return peers, err
}

// peerIDs are those of peers given by name or ID.
func peerIDs(names []string, peers []cluster.Peer) (ids []string, _ error) {
	for _, name := range names {
		at := slices.IndexFunc(peers, func(p cluster.Peer) bool { return p.Name == name || p.ID == name })
		if at < 0 {
			var known []string
			for _, p := range peers {
				known = append(known, p.Name)
			}
			return nil, fmt.Errorf("the cluster has no peer %s: %w\nits peers are %s", quote(name), volume.ErrInvalid, quote(strings.Join(known, ", ")))
		}
		ids = append(ids, peers[at].ID)
	}
	return ids, nil
}

// place tells the cluster of a pin that the queue held.
func (r *remote) place(ctx context.Context, p pinset.Pin, args map[string]string, standard cluster.Placement) error {
	place, names, err := placementOf(args, standard)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		peers, err := r.cluster.Peers(ctx)
		if err != nil {
			return err
		}
		if place.Peers, err = peerIDs(names, peers); err != nil {
			return err
		}
	}
	return r.cluster.Place(ctx, p, place)
}
