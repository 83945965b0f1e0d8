package volume

import (
	"context"
	"fmt"

	"github.com/volary/volary/snapshot"
)

// Preview stores what a commit would be, without making it one: nothing keeps it, and the head stays.
type Preview struct {
	Name string `json:"name"`
}

func (op *Preview) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if r.Overlay == nil || r.Overlay.ReadOnly {
		return m.result(ctx, r)
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.Close()
	c, unsettled, err := m.snapshot(ctx, s, r)
	if err != nil {
		return Result{}, fmt.Errorf("read %s: %w", op.Name, err)
	}
	c.Consistency, c.Time, c.Author = consistencyOf(r), m.o.Now().UTC(), m.o.Author
	if err := snapshot.Extend(ctx, s, c, r.Head.Cid); err != nil {
		return Result{}, err
	}
	blk, err := snapshot.EncodeCommit(c)
	if err != nil {
		return Result{}, err
	}
	res, err := m.result(ctx, r)
	res.Commit, res.Unsettled = CID{blk.Cid()}, unsettled
	if err != nil {
		return res, err
	}
	if err := s.Put(ctx, blk); err != nil {
		return res, err
	}
	return res, s.Sync(ctx) // whoever reads it does so past the session
}
