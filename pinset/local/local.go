// Package local keeps pins on the local disk: the embedded [pinset.Set], and the default one. Start with [New],
// which stands on a store of blocks and records; [Set.Collect] removes from that store what no pin and no tag
// reaches.
//
// It guarantees: a pin, tag or mark is durable once the call returns; nothing is collected that a pin, a tag
// or an open session reaches, whatever is added while a collection runs; a collection never fetches; and if
// part of a pinned DAG cannot be read, so that what it links to is not known, nothing is removed at all, unless that
// part was never here and other hosts have it.
package local

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

var (
	// ErrNoTag says that there is no tag of a name.
	ErrNoTag = errors.New("no such tag")
	// ErrNewer says that a newer version of the program wrote a record.
	ErrNewer = errors.New("record was written by a newer version")
)

// Store is what a Set stands on. Record and Records read a durable table in which SetRecords changes several
// records at once, deletes those whose value is nil, and returns once the change is durable. Get is that of
// snapshot.Blocks.
type Store interface {
	Record(ctx context.Context, key string) ([]byte, error)
	Records(ctx context.Context, prefix string, fn func(key string, value []byte) error) error
	SetRecords(ctx context.Context, recs map[string][]byte) error
	Get(ctx context.Context, c cid.Cid) (blocks.Block, error)
}

// Keys of the records, each followed by the bytes of a CID or the name of a tag. After the CID of a pin that is not
// people's come a slash and its owner.
const (
	pinPrefix   = "pin/"
	tagPrefix   = "tag/"
	ownPrefix   = "own/"
	knownPrefix = "known/"
)

// recordVersion is the version of the records' format.
const recordVersion = 1

// Set is the pins, tags and marks of one store. It must be made by New. All methods are safe for concurrent
// use.
type Set struct {
	store Store
	begin func(context.Context) (Sweep, error)

	// mu is held while a record is set, and by a collection while it removes: what was added before counts
	// for it, what is added later finds what it left.
	mu         sync.Mutex
	collecting bool
	added      []cid.Cid // roots pinned or tagged since the collection began
}

var _ pinset.Set = (*Set)(nil)

// New returns the set that a store holds. begin is the store's way to begin a collection.
func New[S Sweep](store Store, begin func(context.Context) (S, error)) *Set {
	return &Set{store: store, begin: func(ctx context.Context) (Sweep, error) {
		sw, err := begin(ctx)
		if err != nil {
			return nil, err
		}
		return sw, nil
	}}
}

type pinRecord struct {
	Version int               `json:"v"`
	Name    string            `json:"name,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Created time.Time         `json:"created"`
}

type tagRecord struct {
	Version int    `json:"v"`
	Root    string `json:"root"`
}

type ownRecord struct {
	Version int `json:"v"`
}

type knownRecord struct {
	Version int `json:"v"`
}

// Add records a pin.
func (s *Set) Add(ctx context.Context, p pinset.Pin) error {
	if !p.Root.Defined() {
		return errors.New("pin without a root")
	}
	if err := pinset.CheckOwner(p.Owner); err != nil {
		return fmt.Errorf("pin %s: %w", p.Root, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Created.IsZero() {
		status, err := s.Status(ctx, p.Root)
		if err != nil {
			return err
		}
		old, _ := status.Of(p.Owner)
		p.Created = old.Created
	}
	if p.Created.IsZero() {
		p.Created = time.Now()
	}
	rec := pinRecord{Version: recordVersion, Name: p.Name, Meta: p.Meta, Created: p.Created}
	if err := s.set(ctx, pinKey(p.Root, p.Owner), rec); err != nil {
		return fmt.Errorf("pin %s: %w", p.Root, err)
	}
	s.grow(p.Root)
	return nil
}

// Remove forgets an owner's pin. Blocks that nothing else keeps go with the next collection.
func (s *Set) Remove(ctx context.Context, root cid.Cid, owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store.SetRecords(ctx, map[string][]byte{pinKey(root, owner): nil}); err != nil {
		return fmt.Errorf("unpin %s: %w", root, err)
	}
	return nil
}

// Status tells whether a root is pinned.
func (s *Set) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	pins, err := s.pins(ctx, root.KeyString())
	if err != nil || len(pins) == 0 {
		return pinset.Status{State: pinset.Unpinned}, err
	}
	return pinset.Status{State: pinset.Pinned, Pins: pins}, nil
}

func pinKey(root cid.Cid, owner string) string {
	key := pinPrefix + root.KeyString()
	if owner != "" {
		key += "/" + owner
	}
	return key
}

// pins returns those whose keys begin so, in the order of the keys. No CID is the beginning of another one: it says
// where it ends.
func (s *Set) pins(ctx context.Context, begin string) (pins []pinset.Pin, _ error) {
	return pins, s.store.Records(ctx, pinPrefix+begin, func(key string, value []byte) error {
		p, err := decodePin([]byte(key[len(pinPrefix):]), value)
		pins = append(pins, p)
		return err
	})
}

// All lists the pins, the oldest first.
func (s *Set) All(ctx context.Context) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		pins, err := s.pins(ctx, "")
		if err != nil {
			yield(pinset.Pin{}, fmt.Errorf("list pins: %w", err))
			return
		}
		slices.SortFunc(pins, func(a, b pinset.Pin) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Root.KeyString(), b.Root.KeyString()), cmp.Compare(a.Owner, b.Owner))
		})
		for _, p := range pins {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func decodePin(key, value []byte) (pinset.Pin, error) {
	n, root, err := cid.CidFromBytes(key)
	if err != nil {
		return pinset.Pin{}, fmt.Errorf("pin record %q: %w", key, err)
	}
	owner, has := bytes.CutPrefix(key[n:], []byte("/"))
	if has == (len(owner) == 0) {
		return pinset.Pin{}, fmt.Errorf("pin record %q names no owner", key)
	}
	var r pinRecord
	if err := decode(value, &r, &r.Version); err != nil {
		return pinset.Pin{}, fmt.Errorf("pin of %s: %w", root, err)
	}
	return pinset.Pin{Root: root, Owner: string(owner), Name: r.Name, Meta: r.Meta, Created: r.Created}, nil
}

// set writes one record. The caller holds mu.
func (s *Set) set(ctx context.Context, key string, rec any) error {
	value, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return s.store.SetRecords(ctx, map[string][]byte{key: value})
}

// grow tells a running collection of a root. The caller holds mu.
func (s *Set) grow(root cid.Cid) {
	if s.collecting {
		s.added = append(s.added, root)
	}
}

// decode refuses fields it does not know, after the version has told who wrote them.
func decode(value []byte, rec any, version *int) error {
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	if v.Version > recordVersion {
		return fmt.Errorf("%w: version %d, this program knows %d", ErrNewer, v.Version, recordVersion)
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(rec); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	if *version != recordVersion {
		return fmt.Errorf("decode record: version %d", *version)
	}
	return nil
}
