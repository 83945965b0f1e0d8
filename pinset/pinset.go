// Package pinset says what must be kept. A [Pin] names a root (a commit, or any DAG) that a user or a volume
// wants; a [Set] holds them durably. What no pin reaches may be collected.
package pinset

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
)

// ErrNotPinned says that a root is not in the set.
var ErrNotPinned = errors.New("not pinned")

// A Pin keeps Root and everything its links reach.
type Pin struct {
	Root    cid.Cid
	Name    string            // what a person calls it; may be empty, need not be unique
	Meta    map[string]string // the pinner's own notes, such as the directory a snapshot was made from
	Created time.Time         // when it was added; set by Add if zero
}

// State is how far a pin has got.
type State string

const (
	Unpinned State = "unpinned" // not in the set
	Pinned   State = "pinned"   // recorded, and all blocks are held
)

// Status is what is known of one root.
type Status struct {
	Pin   Pin
	State State
}

// Set says what must be kept. All methods are safe for concurrent use.
//
// Add records the pin durably before it returns; adding a root again replaces its name and meta. The caller
// has stored and synced the root's blocks. Remove of what is absent is no error. Status of an unknown root
// is [Unpinned], not an error. All lists the pins in the order of their creation, the oldest first; it sees
// every pin that was in the set before the call and was not removed during it.
type Set interface {
	Add(ctx context.Context, p Pin) error
	Remove(ctx context.Context, root cid.Cid) error
	Status(ctx context.Context, root cid.Cid) (Status, error)
	All(ctx context.Context) iter.Seq2[Pin, error]
}
