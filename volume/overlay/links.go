package overlay

import (
	"context"
	"fmt"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// linkNames names the files of several names in a snapshot of layers: by the path of the leader.
type linkNames map[string]string

// of is the name of the file that the path is a name of; empty if it has no other.
func (l linkNames) of(raw string) string { return l[raw] }

// readLinks learns which names of layers are one file.
func (m *merger) readLinks(ctx context.Context) error {
	m.links = linkNames{}
	for h, err := range m.layers.Hardlinks(ctx) {
		if err != nil {
			return err
		}
		m.links[h.Path], m.links[h.Leader] = h.Leader, h.Leader
	}
	return nil
}

func copyData(u *tree.Entry, attr *meta.Attr, data tree.Entry) error {
	if data.Type != meta.File {
		return fmt.Errorf("data of %q is a %s: %w", u.Name, data.Type, ErrMismatch)
	}
	u.CID, u.Size, u.Tsize = data.CID, data.Size, data.Tsize
	attr.Sparse = data.Sparse
	return nil
}

func child(e tree.Entry) unixfs.Child {
	return unixfs.Child{Name: e.Name, CID: e.CID, Tsize: e.Tsize}
}
