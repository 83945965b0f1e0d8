// Package pinset says what must be kept. A [Pin] names a root (a commit, or any DAG) that a user or a volume
// wants; a [Set] holds them durably. What no pin reaches may be collected.
package pinset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// MaxOwner is the longest name of an owner in bytes.
const MaxOwner = 255

var (
	// ErrNotPinned says that a root is not in the set.
	ErrNotPinned = errors.New("not pinned")
	// ErrOwner says that an owner is longer than MaxOwner, or not UTF-8.
	ErrOwner = errors.New("owner of a pin is too long or not UTF-8")
	// ErrUnavailable says that who keeps the set could not be asked, or not in time. Whether a change was made is
	// not known; making it again does no harm.
	ErrUnavailable = errors.New("pin set is unavailable")
)

// A Pin keeps Root and everything its links reach, on behalf of its owner. A root is kept as long as one has a pin
// of it.
type Pin struct {
	Root    cid.Cid
	Owner   string            // such as "volume/" and an ID; empty: people, who asked for it by name
	Name    string            // what a person calls it; may be empty, need not be unique
	Meta    map[string]string // the pinner's own notes, such as the directory a snapshot was made from
	Created time.Time         // when it was added; set by Add if zero
}

// State is how far a pin has got.
type State string

const (
	Unpinned State = "unpinned" // not in the set
	Pinning  State = "pinning"  // recorded, but not yet, or no more, are all blocks held as often as was asked for
	Pinned   State = "pinned"   // recorded, and all blocks are held, by as many peers as was asked for
)

// Status is what is known of one root.
type Status struct {
	State State
	Pins  []Pin // of it, by owner

	// Of a set that several peers keep: how many are to hold the root, at least and at most (-1 is all of them),
	// and what each of them says.
	Min, Max int
	Replicas []Replica
}

// Replica is what one peer says of a root.
type Replica struct {
	Peer     string // its peer ID
	Name     string // what people call it
	Pinned   bool   // it holds all blocks
	State    string // in the peers' own words, such as "pin_queued" or "cluster_error"
	Error    string
	Since    time.Time // of the state
	Attempts int       // to pin
}

// Held is how often the peers of a set hold a root, in short.
type Held struct {
	Root     cid.Cid
	State    State
	Have     int // peers that hold it
	Min, Max int // how many are to, as in Status
}

// Of returns an owner's pin, if there is one.
func (s Status) Of(owner string) (p Pin, pinned bool) {
	for _, p := range s.Pins {
		if p.Owner == owner {
			return p, true
		}
	}
	return Pin{}, false
}

// CheckOwner says whether there can be an owner of a name. The error wraps ErrOwner.
func CheckOwner(owner string) error {
	if len(owner) > MaxOwner || !utf8.ValidString(owner) {
		return fmt.Errorf("%.300q: %w", owner, ErrOwner)
	}
	return nil
}

// Set says what must be kept. All methods are safe for concurrent use.
//
// Add records the pin durably before it returns; adding a root again for the same owner replaces its name and meta.
// The caller has stored and synced the root's blocks. From then on Status is [Pinning] or [Pinned]; in a set on one
// host at once Pinned. Remove takes away an owner's pin, and leaves those of others; of what is absent is no error.
// What was removed and is added again is a new pin. Status of an unknown root is [Unpinned], not an error. All lists
// the pins in the order of their creation, the oldest first; it sees every pin that was in the set before the call and
// was not removed during it. It lists all or yields an error. A set may refuse a pin that it could not keep to the
// byte, such as one with much meta, with an error that says so and changes nothing.
type Set interface {
	Add(ctx context.Context, p Pin) error
	Remove(ctx context.Context, root cid.Cid, owner string) error
	Status(ctx context.Context, root cid.Cid) (Status, error)
	All(ctx context.Context) iter.Seq2[Pin, error]
}
