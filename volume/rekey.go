package volume

import (
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
)

// Successor is what a volume is called on all hosts once the secret of its namespace was changed, and the state that it
// is then at on this host.
type Successor struct {
	Key      Key
	Head     cid.Cid // undefined: the state that it was at
	Sequence uint64
}

// Recorded returns the volumes that are recorded here and that other hosts know, those that were removed among them.
func (m *Manager) Recorded() (all []At, _ error) {
	for _, bucket := range [][]byte{bucketVolumes, bucketTrash} {
		rs, err := m.db.list(bucket)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if r.shared() {
				all = append(all, At{ID: r.ID, Name: r.Name, Head: r.Head.Cid, Sequence: r.Sequence, Removed: !r.Removed.IsZero()})
			}
		}
	}
	return all, nil
}

// AtRest returns an error that wraps ErrMounted if a volume is mounted, or has changes that are not committed.
func (m *Manager) AtRest() error {
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		return err
	}
	var busy []string
	for _, r := range rs {
		if r.Overlay != nil {
			busy = append(busy, fmt.Sprintf("%q", r.Name))
		}
	}
	if len(busy) > 0 {
		return fmt.Errorf("%w or has changes that are not committed: %s", ErrMounted, strings.Join(busy, ", "))
	}
	return nil
}

// Succeed records volumes as their successors, by the IDs that they had, in one step. What is one already stays as it is.
func (m *Manager) Succeed(successors map[string]Successor) error {
	return m.db.rekey(func(r *record) bool {
		s, is := successors[r.ID]
		if !is {
			return false
		}
		r.ID, r.Key = s.Key.Volume, &s.Key
		if r.Removed.IsZero() && s.Head.Defined() {
			r.Head, r.Sequence = CID{s.Head}, s.Sequence
		}
		return true
	})
}
