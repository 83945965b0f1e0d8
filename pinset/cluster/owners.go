package cluster

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"

	"github.com/volary/volary/pinset"
)

// The cluster has one pin for each root, and its metadata holds the pins of all owners: an entry of the first kind for
// each of them, with the time of creation and the name, and one of the second for each key of its Meta. Owners are
// escaped as in a URL's query, so that they have no colon.
const (
	pinKey  = "volary-pin:"
	metaKey = "volary-meta:"
)

// encode puts the pins of one root into metadata.
func encode(pins []pinset.Pin) map[string]string {
	metadata := map[string]string{}
	for _, p := range pins {
		owner := url.QueryEscape(p.Owner)
		metadata[pinKey+owner] = p.Created.UTC().Format(time.RFC3339Nano) + " " + p.Name
		for k, v := range p.Meta {
			metadata[metaKey+owner+":"+k] = v
		}
	}
	return metadata
}

// decode takes the pins of a root out of what the cluster has, by owner. Metadata that others put there is not ours.
func decode(pin api.Pin, name string) []pinset.Pin {
	byOwner := map[string]pinset.Pin{}
	for k, v := range pin.Metadata {
		if escaped, ok := strings.CutPrefix(k, pinKey); ok {
			if owner, err := url.QueryUnescape(escaped); err == nil {
				p := pinset.Pin{Root: pin.Cid.Cid, Owner: owner, Created: pin.Timestamp, Name: v}
				text, rest, _ := strings.Cut(v, " ")
				if created, err := time.Parse(time.RFC3339Nano, text); err == nil {
					p.Created, p.Name = created, rest
				}
				byOwner[escaped] = p
			}
		}
	}
	for k, v := range pin.Metadata {
		if k, ok := strings.CutPrefix(k, metaKey); ok {
			escaped, k, _ := strings.Cut(k, ":")
			if p, ok := byOwner[escaped]; ok {
				if p.Meta == nil {
					p.Meta = map[string]string{}
				}
				p.Meta[k] = v
				byOwner[escaped] = p
			}
		}
	}
	if len(byOwner) == 0 {
		return []pinset.Pin{{Root: pin.Cid.Cid, Name: name, Created: pin.Timestamp}}
	}
	return slices.SortedFunc(maps.Values(byOwner), func(a, b pinset.Pin) int { return cmp.Compare(a.Owner, b.Owner) })
}

// with returns the pins of a root, by owner, with one put in for its owner. One that says no time of its creation has
// that of the pin it replaces, or now.
func with(pins []pinset.Pin, p pinset.Pin) []pinset.Pin {
	at, there := slices.BinarySearchFunc(pins, p.Owner, func(q pinset.Pin, owner string) int { return cmp.Compare(q.Owner, owner) })
	if there {
		if p.Created.IsZero() {
			p.Created = pins[at].Created
		}
		pins = slices.Clone(pins)
		pins[at] = p
		return pins
	}
	if p.Created.IsZero() {
		p.Created = time.Now()
	}
	return slices.Insert(slices.Clone(pins), at, p)
}

// without returns the pins of a root but one owner's.
func without(pins []pinset.Pin, owner string) []pinset.Pin {
	return slices.DeleteFunc(slices.Clone(pins), func(p pinset.Pin) bool { return p.Owner == owner })
}

// nameOf is the name that the cluster's pin has: of the last owner that gave one, so that a volume's comes before what
// people call it.
func nameOf(pins []pinset.Pin) string {
	for _, p := range slices.Backward(pins) {
		if p.Name != "" {
			return p.Name
		}
	}
	return ""
}

// together is how a root is kept that has owners besides the one who asks for opts: for all of them.
func together(opts api.PinOptions, existing api.Pin) api.PinOptions {
	more := func(a, b int) int {
		if a == Everywhere || b == Everywhere {
			return Everywhere
		}
		return max(a, b)
	}
	opts.ReplicationFactorMin = more(opts.ReplicationFactorMin, existing.ReplicationFactorMin)
	opts.ReplicationFactorMax = more(opts.ReplicationFactorMax, existing.ReplicationFactorMax)
	if len(opts.Origins) == 0 {
		opts.Origins = existing.Origins
	}
	if expiry(existing.ExpireAt) == 0 || expiry(opts.ExpireAt) == 0 {
		opts.ExpireAt = time.Time{}
	} else if existing.ExpireAt.After(opts.ExpireAt) {
		opts.ExpireAt = existing.ExpireAt
	}
	return opts
}
