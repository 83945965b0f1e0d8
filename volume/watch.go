package volume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// News says where a volume is since something was done to it, by this host or another one.
type News struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Head     CID       `json:"head"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time,omitzero"`     // when the commit was made; not known of one that is not here yet
	Author   string    `json:"author,omitempty"`  // peer ID of the host that made it, likewise
	Fork     bool      `json:"fork,omitempty"`    // it is not the volume's head
	Removed  bool      `json:"removed,omitempty"` // the volume
}

// WatchOptions say what is watched. The zero value is all volumes.
type WatchOptions struct {
	Names   []string // only these
	Exist   bool     // each of Names is that of a volume: else the error wraps ErrNotFound
	Current bool     // begin with where they are now
}

// Watch yields news of volumes until ctx is done. If too many come for who takes them, it yields where all volumes are
// instead of what is between. One that is watched goes on being watched by the name that it gets.
func (m *Manager) Watch(ctx context.Context, o WatchOptions) iter.Seq2[News, error] {
	return func(yield func(News, error) bool) {
		ids, err := m.watched(ctx, o)
		if err != nil {
			yield(News{}, err)
			return
		}
		for n, err := range m.o.Heads.Watch(ctx, o.Current) {
			if err == nil && len(o.Names) > 0 {
				if slices.Contains(o.Names, n.Name) {
					ids[n.ID] = true
				}
				if !ids[n.ID] {
					continue
				}
			}
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// watched are the IDs that volumes of some names have now, if there are such. Nothing of the volumes is read.
func (m *Manager) watched(ctx context.Context, o WatchOptions) (map[string]bool, error) {
	if m.o.Heads == nil {
		return nil, fmt.Errorf("watch volumes: this host knows of no heads: %w", ErrNotFound)
	}
	ids := map[string]bool{}
	for _, name := range o.Names {
		if err := CheckName(name); err != nil {
			return nil, err
		}
		r, _, err := m.look(ctx, name)
		if errors.Is(err, ErrNotFound) && !o.Exist {
			continue
		}
		if err != nil {
			return nil, err
		}
		ids[r.ID] = true
	}
	return ids, nil
}
