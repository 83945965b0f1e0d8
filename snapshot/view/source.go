package view

import (
	"context"
	"log/slog"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot/tree"
)

// source leads from the number of an entry to a view.
type source interface {
	fuse.RawFileSystem
	// find returns the view that an entry is in and its number there. done is called when the request is answered.
	find(id uint64) (v *View, local uint64, done func(), err error)
	failed(err error) fuse.Status
	stop()   // has requests end that wait for blocks
	finish() // is called when nobody asks any more
}

// newSource returns what answers of a mount, and whether there are extended attributes.
func newSource(ctx context.Context, s *tree.Snapshot, c *Connection, o Options) (_ source, log *slog.Logger, attrs bool, _ error) {
	if log = o.Logger; log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if o.Follow {
		if len(c.Generations) == 0 {
			c.Generations = []Generation{{Root: s.CID}}
		}
		f, err := newFollower(ctx, s, *c, o)
		return f, log, true, err
	}
	sl, err := openSlots(c.Table)
	if err != nil {
		return nil, log, false, err
	}
	v, err := newView(ctx, s, o, sl)
	if err != nil {
		return nil, log, false, err
	}
	return v, log, v.hasXattrs(), nil
}
