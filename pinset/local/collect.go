package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// Usage counts blocks and their bytes.
type Usage = struct{ Blocks, Bytes int64 }

// Sweep is one collection of a store. Mark says that a CID stays, and tells whether the block is there and
// whether the CID was marked for the first time. Roots returns what open sessions keep recursively, each root
// once. Remove takes away what is neither marked nor kept by a session, or counts it in a dry run, after last,
// which runs while nothing can be kept anew, has marked what came since; that something is lacking tells the
// store, even with an error, that DAGs it takes for complete may not be. Compact gives the space back and tells
// how many bytes. Close ends the collection wherever it is. The fifth method is the price of an end that can
// come at any stage.
type Sweep interface {
	Mark(ctx context.Context, c cid.Cid) (first, found bool, err error)
	Roots() []cid.Cid
	Remove(ctx context.Context, dryRun bool, last func(context.Context) (lacking bool, err error)) (kept, removed Usage, err error)
	Compact(ctx context.Context) (freed int64, err error)
	Close() error
}

// CollectOptions say how to collect.
type CollectOptions struct {
	DryRun bool // counts only
	// Elsewhere says that other hosts may have what was never here, of roots that are not marked as made here: that such
	// a block is lacking is no loss, and what it may link to can be had with it.
	Elsewhere bool
}

// MaxMissing bounds the blocks of a kind that a Report names.
const MaxMissing = 100

// Report says what a collection did, or would do.
type Report struct {
	Roots         int // pinned, tagged, or kept by a session
	KeptBlocks    int64
	KeptBytes     int64
	RemovedBlocks int64
	RemovedBytes  int64
	FreedBytes    int64 // given back to the filesystem
	// Blocks below the roots that are not there, and those whose bytes are not what they should be: of each the
	// first MaxMissing in the order of the CIDs' bytes.
	Missing []cid.Cid
	Damaged []cid.Cid
	// Elsewhere are the first MaxMissing blocks that were never here, where that is no loss.
	Elsewhere []cid.Cid
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
	mark := func(ctx context.Context, roots []cid.Cid) error { return s.mark(ctx, m, o, roots) }
	for len(roots) > 0 {
		if err := mark(ctx, roots); err != nil {
			return m.report(), err
		}
		s.mu.Lock()
		roots = append(sw.Roots(), s.takeAdded()...)
		s.mu.Unlock()
	}
	kept, removed, err := sw.Remove(ctx, o.DryRun, func(ctx context.Context) (lacking bool, err error) {
		s.mu.Lock()
		removing = true
		err = mark(ctx, append(sw.Roots(), s.takeAdded()...))
		if err == nil && m.withheld {
			err = errWithheld
		}
		return len(m.missing)+len(m.damaged)+len(m.elsewhere) > 0, err
	})
	r := m.report()
	if errors.Is(err, errWithheld) {
		return r, nil
	}
	r.KeptBlocks, r.KeptBytes = kept.Blocks, kept.Bytes
	r.RemovedBlocks, r.RemovedBytes = removed.Blocks, removed.Bytes
	if err != nil || o.DryRun {
		return r, err
	}
	// What is added from now on finds all that was not removed: the collection is over for writers.
	s.collecting, s.added = false, nil
	s.mu.Unlock()
	removing = false
	r.FreedBytes, err = sw.Compact(ctx)
	return r, err
}

// mark marks roots and all that is below them: first those of which all was once here, then the others.
func (s *Set) mark(ctx context.Context, m *marker, o CollectOptions, roots []cid.Cid) error {
	if !o.Elsewhere {
		return m.mark(ctx, roots)
	}
	var made, others []cid.Cid
	for _, root := range roots {
		own, err := s.ownedBySomebody(ctx, root)
		if err != nil {
			return err
		}
		if own {
			made = append(made, root)
		} else {
			others = append(others, root)
		}
	}
	m.lenient = false
	if err := m.mark(ctx, made); err != nil {
		return err
	}
	m.lenient = true
	return m.mark(ctx, others)
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
