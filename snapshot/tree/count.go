package tree

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// CheckSize refuses a snapshot that has more entries, or is deeper, than a walk with these limits would visit.
// It reads each directory once, however often the tree has it: a DAG of a few blocks can have more entries
// than any disk, and a walk finds that out only after that many of them. The error wraps
// [snapshot.ErrFormat].
func (s *Snapshot) CheckSize(ctx context.Context, path string, l Limits) error {
	top, err := s.Lookup(ctx, path)
	if err != nil {
		return err
	}
	b := l.Budget()
	c := counter{s: s, limits: b.limits, known: map[[2]cid.Cid]extent{}}
	ext, err := c.count(ctx, top, 0)
	if err != nil {
		return err
	}
	if ext.entries > b.limits.MaxEntries {
		return fmt.Errorf("more than %d entries: %w", b.limits.MaxEntries, snapshot.ErrFormat)
	}
	return nil
}

// extent is how large a directory is.
type extent struct {
	entries uint64 // at any depth; at most one more than the limit
	depth   int    // of the lowest of them; that of its own entries is 1
}

type counter struct {
	s      *Snapshot
	limits Limits
	known  map[[2]cid.Cid]extent
}

func (c *counter) count(ctx context.Context, dir Entry, depth int) (extent, error) {
	key := [2]cid.Cid{dir.CID, dir.Entries}
	ext, ok := c.known[key]
	if !ok && dir.IsDir() {
		for e, err := range c.s.Entries(ctx, dir) {
			if err != nil {
				return ext, err
			}
			below := extent{}
			if e.IsDir() {
				if below, err = c.count(ctx, e, depth+1); err != nil {
					return ext, err
				}
			}
			ext.entries = min(ext.entries+below.entries+1, c.limits.MaxEntries+1)
			ext.depth = max(ext.depth, below.depth+1)
		}
		c.known[key] = ext
	}
	if depth+ext.depth > c.limits.MaxDepth {
		return ext, fmt.Errorf("deeper than %d directories: %w", c.limits.MaxDepth, snapshot.ErrFormat)
	}
	return ext, nil
}
