package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// Sweep is one collection of a store. Mark says that a CID stays, and tells whether the block is there and
// whether the CID was marked for the first time. Roots returns what open sessions keep recursively, each root
// once. Remove takes away what is neither marked nor kept by a session, after last, which runs while nothing
// can be kept anew, has marked what came since; Compact gives the space back. Void says that DAGs the store
// takes for complete may not be. Close ends the collection wherever it is.
type Sweep interface {
	Mark(ctx context.Context, c cid.Cid) (first, found bool, err error)
	Roots() []cid.Cid
	Void(ctx context.Context) error
	Remove(ctx context.Context, dryRun bool, last func(context.Context) error) error
	Compact(ctx context.Context) error
	Removed() (blocks, bytes int64)
	Kept() (blocks, bytes int64)
	Freed() int64
	Close() error
}

// CollectOptions say how to collect.
type CollectOptions struct {
	DryRun bool // counts only
}

// MaxMissing bounds the blocks a Report names.
const MaxMissing = 100

// Report says what a collection did, or would do.
type Report struct {
	Roots         int // pinned, tagged, or kept by a session
	KeptBlocks    int64
	KeptBytes     int64
	RemovedBlocks int64
	RemovedBytes  int64
	FreedBytes    int64     // given back to the filesystem
	Missing       []cid.Cid // blocks below the roots found absent or damaged, at most MaxMissing
	// Withheld says that nothing was removed, because a missing or damaged block has links that are not known:
	// what they lead to might be all that is left of a pinned DAG.
	Withheld bool
}

// errWithheld ends a removal before its beginning.
var errWithheld = errors.New("links of a pinned block are not known")

// Collect removes what no pin, tag or open session reaches. Writers and readers go on meanwhile; adding a pin
// may wait until the removal is done.
func (s *Set) Collect(ctx context.Context, o CollectOptions) (Report, error) {
	sw, err := s.begin(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("collect: %w", err)
	}
	defer sw.Close()
	r, err := s.collect(ctx, sw, o)
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	return r, nil
}

func (s *Set) collect(ctx context.Context, sw Sweep, o CollectOptions) (Report, error) {
	s.mu.Lock()
	s.collecting, s.added = true, nil
	s.mu.Unlock()
	removing := false // mu is held
	defer func() {
		if !removing {
			s.mu.Lock()
		}
		s.collecting, s.added = false, nil
		s.mu.Unlock()
	}()
	roots, err := s.roots(ctx)
	if err != nil {
		return Report{}, err
	}
	m := newMarker(s.store, sw)
	for len(roots) > 0 {
		if err := m.mark(ctx, roots); err != nil {
			return m.report(), err
		}
		s.mu.Lock()
		roots = append(sw.Roots(), s.takeAdded()...)
		s.mu.Unlock()
	}
	err = sw.Remove(ctx, o.DryRun, func(ctx context.Context) error {
		s.mu.Lock()
		removing = true
		if err := m.mark(ctx, append(sw.Roots(), s.takeAdded()...)); err != nil {
			return err
		}
		if len(m.lacking) > 0 && !o.DryRun {
			if err := sw.Void(ctx); err != nil {
				return err
			}
		}
		if m.withheld {
			return errWithheld
		}
		return nil
	})
	r := m.report()
	if errors.Is(err, errWithheld) {
		return r, nil
	}
	r.KeptBlocks, r.KeptBytes = sw.Kept()
	r.RemovedBlocks, r.RemovedBytes = sw.Removed()
	if err != nil || o.DryRun {
		return r, err
	}
	// What is added from now on finds all that was not removed: the collection is over for writers.
	s.collecting, s.added = false, nil
	s.mu.Unlock()
	removing = false
	err = sw.Compact(ctx)
	r.FreedBytes = sw.Freed()
	return r, err
}

// takeAdded returns what was pinned or tagged since the last call. The caller holds mu.
func (s *Set) takeAdded() []cid.Cid {
	added := s.added
	s.added = nil
	return added
}

// roots lists what is pinned and tagged.
func (s *Set) roots(ctx context.Context) ([]cid.Cid, error) {
	var roots []cid.Cid
	for p, err := range s.All(ctx) {
		if err != nil {
			return nil, err
		}
		roots = append(roots, p.Root)
	}
	for t, err := range s.Tags(ctx) {
		if err != nil {
			return nil, err
		}
		roots = append(roots, t.Root)
	}
	return roots, nil
}
