package volume

import (
	"context"
	"fmt"

	"github.com/volary/volary/snapshot"
)

// Operation is a change of a volume: [Create], [Mount], [Unmount], [Commit], [Discard], [Preview], [Retain], [Rollback], [Clone],
// [Rename], [Set], [Tag], [Remove], [Undelete] or [Prune].
type Operation interface {
	run(ctx context.Context, m *Manager) (Result, error)
}

// Result is what an operation did.
type Result struct {
	Volume      *Info                `json:"volume,omitempty"`
	Commit      CID                  `json:"commit,omitzero"`       // the head; of Preview, what would be
	Created     bool                 `json:"created,omitempty"`     // a commit was made
	Consistency snapshot.Consistency `json:"consistency,omitempty"` // of that commit
	Path        string               `json:"path,omitempty"`        // where the volume is mounted
	Unsettled   []string             `json:"unsettled,omitempty"`   // paths that changed each time they were read
	Warning     string               `json:"warning,omitempty"`     // what was asked for beside the commit and failed
	Removed     []string             `json:"removed,omitempty"`     // names of volumes
	Retained    []Retained           `json:"retained,omitempty"`
}

// Do runs an operation.
func (m *Manager) Do(ctx context.Context, op Operation) (Result, error) { return op.run(ctx, m) }

// OperationName is the name of an operation in requests.
func OperationName(op Operation) string {
	switch op.(type) {
	case *Create:
		return "create"
	case *Mount:
		return "mount"
	case *Unmount:
		return "unmount"
	case *Commit:
		return "commit"
	case *Discard:
		return "discard"
	case *Preview:
		return "preview"
	case *Retain:
		return "retain"
	case *Rollback:
		return "rollback"
	case *Clone:
		return "clone"
	case *Rename:
		return "rename"
	case *Set:
		return "set"
	case *Tag:
		return "tag"
	case *Remove:
		return "remove"
	case *Undelete:
		return "undelete"
	case *Prune:
		return "prune"
	}
	return ""
}

// NewOperation returns an empty operation of a name, to be filled from a request.
func NewOperation(name string) (Operation, error) {
	for _, op := range []Operation{
		new(Create), new(Mount), new(Unmount), new(Commit), new(Discard), new(Preview), new(Retain), new(Rollback), new(Clone), new(Rename), new(Set), new(Tag),
		new(Remove), new(Undelete), new(Prune),
	} {
		if OperationName(op) == name {
			return op, nil
		}
	}
	return nil, fmt.Errorf("operation %q: %w", name, ErrInvalid)
}
