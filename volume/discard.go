package volume

import (
	"context"
	"fmt"
)

// Discard throws away what is not committed. The volume must not be mounted.
type Discard struct {
	Name string `json:"name"`
}

func (op *Discard) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if len(r.Users) > 0 {
		return Result{}, mounted(r)
	}
	note := unchanged(r)
	if r.Overlay != nil {
		note = ""
		if m.o.Mounter == nil {
			return Result{}, ErrCannotMount
		}
		if err := m.o.Mounter.Unmount(ctx, m.overlayDir(r.Overlay.ID)); err != nil {
			return Result{}, fmt.Errorf("discard changes of %s: %w", op.Name, err)
		}
		if err := m.retire(r); err != nil {
			return Result{}, fmt.Errorf("discard changes of %s: %w", op.Name, err)
		}
	}
	res, err := m.result(ctx, r)
	res.Note = note
	return res, err
}
