// Package cluster keeps pins in an IPFS Cluster, over the REST API of its peers: a [pinset.Set] whose roots several
// Kubo daemons hold. The cluster allocates, replicates and repairs; this package says what is to be kept, and tells
// the truth about it. Start with [New]; [Set.Place] pins with a say in how often and where, [Set.Wait] waits for
// replicas.
//
// It guarantees: a pin counts as added once the cluster gives back all that was said of it; pins of others in the
// same cluster, told apart by their names, are neither listed nor changed nor removed; a list is whole or ends with
// an error; every error names the endpoint that gave it. With several endpoints the next one is asked when one
// cannot be reached or breaks off.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// Defaults of Options.
const (
	// DefaultTimeout is longer than the 15 s after which a cluster peer gives up another one that does not answer.
	DefaultTimeout = 20 * time.Second
	DefaultSettle  = 10 * time.Second
)

// Options say which cluster to use, and how. Endpoints and Namespace are required.
type Options struct {
	// Endpoints are REST APIs of peers of one cluster: http:// or https:// URLs, or multiaddresses such as
	// /ip4/127.0.0.1/tcp/9094. The first is preferred. A URL may have user:password@ in it.
	Endpoints []string
	User      string // for basic authorisation at endpoints that have none of their own
	Password  string
	Insecure  bool // takes any TLS certificate; otherwise those that the system trusts (SSL_CERT_FILE)

	Namespace string    // sets of different namespaces share a cluster and do not see each other's pins
	Default   Placement // how Add pins
	// Formerly are namespaces whose secret was changed, which made them this one. What people pinned in them counts as
	// pinned in this one; what volumes did is let go of when a volume of this one lets go of the same.
	Formerly []string

	Timeout time.Duration // of one request, and between two pins of a list; DefaultTimeout if zero
	Settle  time.Duration // how long what was changed may take to read back; DefaultSettle if zero
	TempDir string        // for the list of pins while it is sorted; the system's if empty
}

// Set is the pins of one namespace in a cluster. It must be made by New. All methods are safe for concurrent use.
type Set struct {
	o         Options
	prefix    string   // of the names of our pins
	formerly  []string // prefixes of those that are ours by Formerly
	endpoints []endpoint
	current   atomic.Int32 // the endpoint that answered last
	seed      maphash.Seed
	changing  [256]sync.Mutex // each is for the roots of its hash

	maxPins, maxListed int
}

var _ pinset.Set = (*Set)(nil)

// New returns the set of a namespace. It asks the cluster nothing.
func New(o Options) (*Set, error) {
	if o.Namespace == "" || strings.Contains(o.Namespace, "/") {
		return nil, fmt.Errorf("cluster: namespace %q is empty or has a slash", o.Namespace)
	}
	if len(o.Endpoints) == 0 {
		return nil, errors.New("cluster: no endpoint")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	s := &Set{o: o, prefix: "volary/" + o.Namespace + "/", seed: maphash.MakeSeed(), maxPins: maxPins, maxListed: maxListed}
	for _, id := range o.Formerly {
		s.formerly = append(s.formerly, "volary/"+id+"/")
	}
	for _, address := range o.Endpoints {
		e, err := dial(address, o)
		if err != nil {
			return nil, err
		}
		s.endpoints = append(s.endpoints, e)
	}
	return s, nil
}

// Add pins with the set's default placement.
func (s *Set) Add(ctx context.Context, p pinset.Pin) error { return s.Place(ctx, p, s.o.Default) }

// Remove takes away an owner's pin, and unpins the root everywhere if it was the last. While the peers of a cluster have not told each other of a pin, some do not know it:
// the other endpoints are then asked before it counts as absent.
func (s *Set) Remove(ctx context.Context, root cid.Cid, owner string) error {
	defer s.lock(root)()
	op := "unpin " + root.String()
	found := false
	remove := func(e endpoint) error {
		pin, ok, err := s.allocation(ctx, e, op, root)
		if err != nil || !ok || !s.ours(pin) {
			return err
		}
		found = true
		return s.remove(ctx, e, op, pin, owner)
	}
	if err := s.try(ctx, op, remove); err != nil || found || len(s.endpoints) == 1 {
		return err
	}
	for _, e := range s.endpoints {
		if err := remove(e); err != nil && !errors.Is(err, pinset.ErrUnavailable) || found {
			return err
		}
	}
	return nil
}

// remove does so at one endpoint, which knows of the pin.
func (s *Set) remove(ctx context.Context, e endpoint, op string, pin api.Pin, owner string) error {
	root := pin.Cid
	pins := s.pins(pin)
	left := without(pins, owner)
	_, former := s.former(pin)
	if len(left) == len(pins) && !(former && len(pins) == 0) {
		return nil
	}
	if len(left) > 0 {
		opts := pin.PinOptions
		opts.PinUpdate = api.CidUndef
		if expiry(opts.ExpireAt) == 0 {
			opts.ExpireAt = time.Time{}
		}
		opts.Name, opts.Metadata = s.said(left)
		return s.record(ctx, e, op, root, opts)
	}
	err := s.call(ctx, e, op, func(ctx context.Context) error {
		_, err := e.client.Unpin(ctx, root)
		return err
	})
	if err != nil && !errors.Is(err, pinset.ErrNotPinned) {
		return err
	}
	return s.settle(ctx, e, op, root.Cid, func(now api.Pin, there bool) bool {
		// Somebody may have pinned it again meanwhile.
		return !there || !now.Timestamp.Equal(pin.Timestamp)
	})
}

// Status tells what the cluster's peers say of a root.
func (s *Set) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	return s.status(ctx, "status of "+root.String(), root, nil, func(ctx context.Context, e endpoint) (api.GlobalPinInfo, error) {
		return e.client.Status(ctx, api.NewCid(root), false)
	})
}

// Recover has the peers try again what went wrong with a root.
func (s *Set) Recover(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	return s.status(ctx, "recover "+root.String(), root, nil, func(ctx context.Context, e endpoint) (api.GlobalPinInfo, error) {
		return e.client.Recover(ctx, api.NewCid(root), false)
	})
}

// status asks what is to be kept, which the endpoint knows by itself, and then what all peers say, who may take their
// time. enough, if there, is asked in between whether they have to be heard.
func (s *Set) status(ctx context.Context, op string, root cid.Cid, enough func(*pinset.Status) bool,
	ask func(context.Context, endpoint) (api.GlobalPinInfo, error),
) (pinset.Status, error) {
	st := pinset.Status{State: pinset.Unpinned}
	err := s.try(ctx, op, func(e endpoint) error {
		pin, ok, err := s.allocation(ctx, e, op, root)
		if err != nil || !ok || !s.ours(pin) {
			return err
		}
		known := s.recorded(pin)
		if enough != nil && enough(&known) {
			st = known
			return nil
		}
		var info api.GlobalPinInfo
		if err := s.call(ctx, e, op, func(ctx context.Context) error {
			var err error
			info, err = ask(ctx, e)
			return err
		}); err != nil {
			return err
		}
		st = counted(known, info)
		return nil
	})
	return st, err
}

// allocation reads what is recorded of a root, whoever pinned it.
func (s *Set) allocation(ctx context.Context, e endpoint, op string, root cid.Cid) (pin api.Pin, ok bool, err error) {
	err = s.call(ctx, e, op, func(ctx context.Context) error {
		var err error
		pin, err = e.client.Allocation(ctx, api.NewCid(root))
		return err
	})
	if errors.Is(err, pinset.ErrNotPinned) {
		return api.Pin{}, false, nil
	}
	return pin, err == nil, err
}

// settle waits until what is recorded of a root is as wanted.
func (s *Set) settle(ctx context.Context, e endpoint, op string, root cid.Cid, wanted func(pin api.Pin, ok bool) bool) error {
	until := time.Now().Add(s.o.Settle)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		pin, ok, err := s.allocation(ctx, e, op, root)
		if err != nil || wanted(pin, ok) {
			return err
		}
		if time.Now().After(until) {
			return &Error{Op: op, Endpoint: e.name, Err: fmt.Errorf("%w: it took the change, but after %s does not read back as told",
				pinset.ErrUnavailable, s.o.Settle)}
		}
		if err := sleep(ctx, pause); err != nil {
			return &Error{Op: op, Endpoint: e.name, Err: err}
		}
	}
}

// sleep waits for a time or for the context's end.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Namespace is the one whose pins these are.
func (s *Set) Namespace() string { return s.o.Namespace }
