package volume

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// splitRef takes a reference apart: VOLUME or VOLUME@STATE.
func splitRef(ref string) (name, state string, ok bool) { return strings.Cut(ref, "@") }

// Resolve returns the snapshot that a reference names: a CID, the head of VOLUME, or one of its states: the
// commit of a sequence (VOLUME@3), so many commits before the head (VOLUME@~1), tagged (VOLUME@TAG), or the last
// one at a time (VOLUME@2026-11-22T10:00, in the local zone if none is given). The error wraps ErrNotFound if
// there is none.
func (m *Manager) Resolve(ctx context.Context, ref string) (cid.Cid, error) {
	if c, err := cid.Decode(strings.TrimPrefix(ref, "/ipfs/")); err == nil {
		return c, nil
	}
	name, state, has := splitRef(ref)
	r, err := m.db.get(name)
	if err != nil || !has {
		return r.Head.Cid, err
	}
	c, err := m.state(ctx, r, state)
	if err != nil {
		return cid.Undef, fmt.Errorf("%s: %w", ref, err)
	}
	return c, nil
}

func (m *Manager) state(ctx context.Context, r *record, state string) (cid.Cid, error) {
	if c, ok := r.Tags[state]; ok {
		return c.Cid, nil
	}
	if back, ok := strings.CutPrefix(state, "~"); ok {
		n, err := strconv.ParseUint(back, 10, 32)
		if err != nil {
			return cid.Undef, fmt.Errorf("%q is not a number of commits: %w", back, ErrInvalid)
		}
		return m.find(ctx, r, func(i uint64, _ snapshot.Ancestor) bool { return i == n })
	}
	if n, err := strconv.ParseUint(state, 10, 64); err == nil {
		return m.find(ctx, r, func(_ uint64, a snapshot.Ancestor) bool { return a.Sequence == n })
	}
	at, err := parseTime(state)
	if err != nil {
		return cid.Undef, fmt.Errorf("%q is no tag, sequence, ~COUNT or time: %w", state, ErrNotFound)
	}
	return m.find(ctx, r, func(_ uint64, a snapshot.Ancestor) bool { return !a.Time.After(at) })
}

// find returns the newest commit of the volume's history, the head included, that match accepts; i counts from
// the head.
func (m *Manager) find(ctx context.Context, r *record, match func(i uint64, a snapshot.Ancestor) bool) (cid.Cid, error) {
	i := uint64(0)
	for a, err := range m.history(ctx, r.Head.Cid) {
		if err != nil {
			return cid.Undef, err
		}
		if match(i, a) {
			return a.CID, nil
		}
		i++
	}
	return cid.Undef, fmt.Errorf("the history has %d commits and none such: %w", i, ErrNotFound)
}

// parseTime reads a time as people write it, in the local zone unless it says.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, ErrInvalid
}
