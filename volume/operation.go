package volume

import (
	"context"
	"fmt"
	"reflect"

	"github.com/volary/volary/snapshot"
)

// Operation is a change of a volume: [Create], [Mount], [Unmount], [Commit], [Discard], [Preview], [Retain], [Rollback], [Merge],
// [Clone], [Rename], [Follow], [Set], [Tag], [Remove], [Undelete] or [Prune].
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
	Lagging     bool                 `json:"lagging,omitempty"`     // the commit has fewer replicas than the volume's options ask for
	Note        string               `json:"note,omitempty"`        // what somebody who asked for it wants to know besides
	Previous    CID                  `json:"previous,omitzero"`     // where a tag was before
	Removed     []string             `json:"removed,omitempty"`     // names of volumes
	Retained    []Retained           `json:"retained,omitempty"`
	Merged      *Merged              `json:"merged,omitempty"` // of Merge, if there was something to merge
}

// Do runs an operation. If the disk is full, one that ends something is run again, hooks included, with the reserve.
// Where the volume's options say so, it is then waited until the commit is replicated.
func (m *Manager) Do(ctx context.Context, op Operation) (res Result, err error) {
	if !finishes(op) {
		return op.run(ctx, m)
	}
	err = m.withReserve(func() error {
		res, err = op.run(ctx, m)
		return err
	})
	if err == nil {
		m.acknowledge(ctx, op, &res)
	}
	return res, err
}

// operations has an empty operation of each kind, under its name in requests.
func operations() map[string]Operation {
	return map[string]Operation{
		"create": new(Create), "mount": new(Mount), "unmount": new(Unmount), "commit": new(Commit), "discard": new(Discard),
		"preview": new(Preview), "retain": new(Retain), "rollback": new(Rollback), "merge": new(Merge), "clone": new(Clone), "rename": new(Rename),
		"set": new(Set), "follow": new(Follow), "tag": new(Tag), "remove": new(Remove), "undelete": new(Undelete), "prune": new(Prune),
	}
}

// OperationName is the name of an operation in requests.
func OperationName(op Operation) string {
	for name, one := range operations() {
		if reflect.TypeOf(one) == reflect.TypeOf(op) {
			return name
		}
	}
	return ""
}

// NewOperation returns an empty operation of a name, to be filled from a request.
func NewOperation(name string) (Operation, error) {
	if op, ok := operations()[name]; ok {
		return op, nil
	}
	return nil, fmt.Errorf("operation %q: %w", name, ErrInvalid)
}
