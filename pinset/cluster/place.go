package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/pinset"
)

var (
	// ErrTooLarge says that name, meta, origins and peers of a pin are more than a request can carry.
	ErrTooLarge = errors.New("name, meta, origins and peers are too large for a pin")
	// ErrForeign says that a root is pinned by somebody else, under a name that is not of this namespace. The
	// cluster has one pin for each root.
	ErrForeign = errors.New("pinned by somebody else")
)

// MaxPin bounds what a pin says, in the bytes of a request's query: a peer takes 8 KiB with all headers, by default.
const MaxPin = 6 << 10

// Everywhere as Min and Max has every peer hold a root.
const Everywhere = -1

// Placement says how often a root is to be held, where, and how the peers get it.
type Placement struct {
	Min, Max int               // replicas; the cluster's own defaults if zero
	Peers    []string          // IDs of cluster peers to be chosen first, in this order; the local one first saves a transfer
	Tags     map[string]string // then the peers that have all these tags (informer "tags" of their configuration)
	Expire   time.Time         // when the cluster forgets the pin; never if zero. In whole seconds
	Origins  []string          // multiaddresses with peer IDs, of who has the blocks
	// Update is a pinned root that shares much with this one, such as the parent commit. It spares the peers a walk;
	// for a moment the pin then has the parent's meta, which stays if the host dies in that moment and does not Place
	// it again.
	Update cid.Cid
}

// Place pins a root for an owner, or changes how it is pinned, and returns once the cluster gives back what was said.
// Who holds it already keeps it as long as there are enough of them: the cluster then chooses nobody anew. A root with
// several owners is held as often and as long as any of them asked for. Of two hosts that pin the same root for
// different owners before they hear of each other, the cluster keeps one's.
func (s *Set) Place(ctx context.Context, p pinset.Pin, pl Placement) error {
	if !p.Root.Defined() {
		return errors.New("pin without a root")
	}
	op := "pin " + p.Root.String()
	opts, err := s.pinOptions(p, pl)
	if err == nil {
		err = pinset.CheckOwner(p.Owner)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer s.lock(p.Root)()
	return s.try(ctx, op, func(e endpoint) error { return s.place(ctx, e, op, p, pl, opts) })
}

// place does so at one endpoint.
func (s *Set) place(ctx context.Context, e endpoint, op string, p pinset.Pin, pl Placement, opts api.PinOptions) error {
	existing, there, err := s.allocation(ctx, e, op, p.Root)
	if err != nil {
		return err
	}
	if there && !s.ours(existing) {
		return &Error{Op: op, Endpoint: e.name, Err: fmt.Errorf("%w, as %q", ErrForeign, existing.Name)}
	}
	var pins []pinset.Pin
	if there {
		pins = s.pins(existing)
	}
	if len(without(pins, p.Owner)) > 0 {
		opts = together(opts, existing)
	}
	opts.Name, opts.Metadata = s.said(with(pins, p))
	if there && same(existing, opts) {
		return nil
	}
	if len(pl.Tags) > 0 {
		tagged, err := s.tagged(ctx, e, op, pl.Tags)
		if err != nil {
			return err
		}
		for _, id := range tagged {
			if !slices.Contains(opts.UserAllocations, id) {
				opts.UserAllocations = append(slices.Clip(opts.UserAllocations), id)
			}
		}
	}
	if err := fits(opts); err != nil {
		return &Error{Op: op, Endpoint: e.name, Err: err}
	}
	if pl.Update.Defined() && !there {
		update := opts
		update.PinUpdate = api.NewCid(pl.Update)
		// It only saves work; where the cluster does not know the parent, the pin proper does it all.
		if err := s.request(ctx, e, op, api.NewCid(p.Root), update); errors.Is(err, pinset.ErrUnavailable) {
			return err
		}
	}
	return s.record(ctx, e, op, api.NewCid(p.Root), opts)
}

// record pins, and waits until it reads back.
func (s *Set) record(ctx context.Context, e endpoint, op string, root api.Cid, opts api.PinOptions) error {
	if err := s.request(ctx, e, op, root, opts); err != nil {
		return err
	}
	return s.settle(ctx, e, op, root.Cid, func(pin api.Pin, ok bool) bool { return ok && same(pin, opts) })
}

func (s *Set) request(ctx context.Context, e endpoint, op string, root api.Cid, opts api.PinOptions) error {
	return s.call(ctx, e, op, func(ctx context.Context) error {
		_, err := e.client.Pin(ctx, root, opts)
		return err
	})
}

// pinOptions says in the cluster's terms what does not depend on what it has.
func (s *Set) pinOptions(p pinset.Pin, pl Placement) (api.PinOptions, error) {
	opts := api.PinOptions{
		ReplicationFactorMin: pl.Min, ReplicationFactorMax: pl.Max, ExpireAt: pl.Expire.Truncate(time.Second),
	}
	for _, id := range pl.Peers {
		decoded, err := peer.Decode(id)
		if err != nil {
			return opts, fmt.Errorf("peer %q: %w", id, err)
		}
		opts.UserAllocations = append(opts.UserAllocations, decoded)
	}
	for _, origin := range pl.Origins {
		addr, err := api.NewMultiaddr(origin)
		if err != nil {
			return opts, fmt.Errorf("origin %q: %w", origin, err)
		}
		opts.Origins = append(opts.Origins, addr)
	}
	for k, v := range p.Meta {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return opts, fmt.Errorf("meta %q is no UTF-8, which a cluster does not keep", k)
		}
	}
	if !utf8.ValidString(p.Name) {
		return opts, fmt.Errorf("name %q is no UTF-8, which a cluster does not keep", p.Name)
	}
	// Others may be added to it.
	opts.Name, opts.Metadata = s.said(with(nil, p))
	return opts, fits(opts)
}

// said is what the cluster's pin says for the pins of a root.
func (s *Set) said(pins []pinset.Pin) (name string, metadata map[string]string) {
	return s.prefix + nameOf(pins), encode(pins)
}

// fits refuses what a request cannot carry.
func fits(opts api.PinOptions) error {
	query, err := opts.ToQuery()
	if err != nil {
		return err
	}
	if len(query) > MaxPin {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(query), MaxPin)
	}
	return nil
}

// same tells whether a pin is what was asked for. What was left to the cluster's defaults may be anything.
func same(pin api.Pin, opts api.PinOptions) bool {
	return pin.Name == opts.Name && maps.Equal(pin.Metadata, opts.Metadata) &&
		(opts.ReplicationFactorMin == 0 || pin.ReplicationFactorMin == opts.ReplicationFactorMin) &&
		(opts.ReplicationFactorMax == 0 || pin.ReplicationFactorMax == opts.ReplicationFactorMax) &&
		expiry(pin.ExpireAt) == expiry(opts.ExpireAt) &&
		slices.EqualFunc(pin.Origins, opts.Origins, func(a, b api.Multiaddr) bool { return a.Value().Equal(b.Value()) })
}

// expiry is the second at which a pin ends, zero for never, which the API says in two ways.
func expiry(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// ours tells whether a pin is of this namespace, or of one that became it.
func (s *Set) ours(pin api.Pin) bool {
	_, former := s.former(pin)
	return former || strings.HasPrefix(pin.Name, s.prefix)
}

// former tells whether a pin is of a namespace that became this one, and what its name is there.
func (s *Set) former(pin api.Pin) (name string, is bool) {
	for _, prefix := range s.formerly {
		if name, is = strings.CutPrefix(pin.Name, prefix); is {
			return name, true
		}
	}
	return "", false
}

// pins are those that a cluster's pin stands for, by owner. Of a namespace that became this one the volumes have other
// keys now.
func (s *Set) pins(pin api.Pin) []pinset.Pin {
	if name, former := s.former(pin); former {
		return slices.DeleteFunc(decode(pin, name), func(p pinset.Pin) bool { return p.Owner != "" })
	}
	return decode(pin, strings.TrimPrefix(pin.Name, s.prefix))
}

// lock keeps other changes of a root waiting: each reads what all owners said, and writes it with its own. It returns
// the way to let them go on.
func (s *Set) lock(root cid.Cid) (unlock func()) {
	mu := &s.changing[maphash.String(s.seed, root.KeyString())%uint64(len(s.changing))]
	mu.Lock()
	return mu.Unlock
}
