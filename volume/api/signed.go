package api

import (
	"context"
	"fmt"

	"github.com/volary/volary/volume"
)

// Heads knows what is signed of volumes, which all hosts of the namespace know.
//
// Signed returns it for the volume of a name, or of an IPNS name in the form that its commits have. An IPNS name that is
// none of the namespace's volumes is looked for where the host asks for what is elsewhere. The error wraps
// volume.ErrNotFound if there is no such volume, or nothing is known of it yet.
type Heads interface {
	Signed(ctx context.Context, name string) (Signed, error)
}

// Signed is what is signed of a volume. Its JSON is stable.
type Signed struct {
	Volume   string `json:"volume"` // its IPNS name
	Value    string `json:"value"`  // where it is: /ipfs/COMMIT/tree, or another path if Volary did not write the record
	Record   []byte `json:"record"` // that says so
	Sequence uint64 `json:"sequence"`

	// Of a volume of the namespace.
	Name    string     `json:"name,omitempty"`
	Head    volume.CID `json:"head,omitzero"`
	Removed bool       `json:"removed,omitempty"`
	Binding []byte     `json:"binding,omitempty"` // that gives it the name
}

type noHeads struct{}

func (noHeads) Signed(_ context.Context, name string) (Signed, error) {
	return Signed{}, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
}
