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
// commit of a sequence (VOLUME@3), so many commits before the head (VOLUME@~1), tagged (VOLUME@TAG), made last by a
// host and not in the head (VOLUME@fork/PEER), or the one it
// was at at a time: the newest that is not later than VOLUME@2026-11-22T10:00, or than the end of the day
// VOLUME@2026-11-22, in the local zone if none is given. Of a volume without changes of its own on this host the newest
// head counts that any host has told. The error wraps ErrNotFound if there is none.
func (m *Manager) Resolve(ctx context.Context, ref string) (cid.Cid, error) {
	if c, err := cid.Decode(strings.TrimPrefix(ref, "/ipfs/")); err == nil {
		return c, nil
	}
	name, state, has := splitRef(ref)
	m.refresh(ctx)
	if err := m.hear(ctx, name); err != nil {
		return cid.Undef, err
	}
	r, _, err := m.look(ctx, name)
	if err != nil {
		return cid.Undef, err
	}
	now, err := m.newest(ctx, r)
	if !has {
		if err != nil {
			return cid.Undef, fmt.Errorf("newest state of %s after %s: %w", ref, r.Head, err)
		}
		return now.Head.Cid, nil
	}
	if err != nil {
		now = r // the state may be one that is here
	}
	c, err := m.state(ctx, now, state)
	if err != nil {
		return cid.Undef, fmt.Errorf("%s: %w", ref, err)
	}
	return c, nil
}

func (m *Manager) state(ctx context.Context, r *record, state string) (cid.Cid, error) {
	if c, ok := r.Tags[state]; ok {
		return c.Cid, nil
	}
	if peer, ok := strings.CutPrefix(state, ForkState); ok {
		return m.forkBy(ctx, r, peer)
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
	end, err := parseTime(state)
	if err != nil {
		return cid.Undef, sentinel{fmt.Sprintf("%q is no tag, sequence, ~COUNT or time", state), ErrNotFound}
	}
	return m.find(ctx, r, func(_ uint64, a snapshot.Ancestor) bool { return a.Time.Before(end) })
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
	return cid.Undef, sentinel{fmt.Sprintf("the history has %d commits and none such", i), ErrNotFound}
}

// parseTime reads a time as people write it, in the local zone unless it says, and returns the end of what it names:
// of a second, and of a date without a time the end of the day.
func parseTime(s string) (end time.Time, _ error) {
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, "2006-01-02T15:04", "2006-01-02 15:04"} {
		t, err := time.ParseInLocation(layout, s, time.Local)
		switch {
		case err != nil:
		case t.Nanosecond() > 0:
			return t.Add(1), nil
		default:
			return t.Add(time.Second), nil
		}
	}
	return time.Time{}, ErrInvalid
}

// InLocalZone gives a reference with a time, or what stands after its @, the zone that is this process's: who
// resolves it may have another one. What is no time stays as it is.
func InLocalZone(ref string) string {
	name, state, has := splitRef(ref)
	if !has {
		name, state = "", ref
	}
	end, err := parseTime(state)
	if err != nil {
		return ref
	}
	at := end.Add(-1).Format(time.RFC3339Nano)
	if has {
		return name + "@" + at
	}
	return at
}
