package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Set changes options of a volume on this host; an empty value takes an option away. Those of commits count from the next one, size at once,
// those of the mount from the next overlay. Other hosts take over those that go with the volume, and that were not set there, from its next commit, which is
// made at once where nobody else can be writing.
type Set struct {
	Name    string            `json:"name"`
	Options map[string]string `json:"options"`
}

func (op *Set) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	before := *r
	if err := r.set(op.Options); err != nil {
		return Result{}, err
	}
	if err := m.checkChanged(ctx, &before, r); err != nil {
		return Result{}, err
	}
	if err := m.db.put(r); err != nil {
		return Result{}, err
	}
	if r.Options["exec-head"] != before.Options["exec-head"] {
		m.wentWell(r, FailedHook)
	}
	if r.given()["size"] != before.given()["size"] && len(r.Users) > 0 && m.o.Mounter != nil {
		if err := m.mountOverlay(ctx, r); err != nil {
			return Result{}, fmt.Errorf("change the size of %s: %w", op.Name, err)
		}
	}
	said, err := m.sayNow(ctx, r)
	if err != nil {
		m.log.Warn("other hosts do not hear of options yet", logVolume, r.Name, logError, err)
	}
	res, err := m.result(ctx, r)
	res.Created, res.Note = said, m.saidNote(r, said)
	return res, err
}

// set changes options that were set here.
func (r *record) set(options map[string]string) error {
	own, unsaid := maps.Clone(withinBounds(r.Options)), slices.Clone(r.Unsaid)
	if own == nil {
		own = map[string]string{}
	}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value := options[key]
		if own[key] = value; value == "" {
			delete(own, key)
		}
		unsaid = slices.DeleteFunc(unsaid, func(k string) bool { return k == key })
		if travels(key) && r.Said[key] != value {
			unsaid = append(unsaid, key)
		}
	}
	if _, err := ParseOptions(own); err != nil {
		return err
	}
	if err := checkSayable(own); err != nil {
		return err
	}
	r.Options, r.Unsaid = own, unsaid
	return nil
}

// checkChanged refuses what was set and cannot be promised.
func (m *Manager) checkChanged(ctx context.Context, before, r *record) error {
	changed := maps.Clone(r.Options)
	maps.DeleteFunc(changed, func(key, value string) bool { return before.Options[key] == value })
	o, err := ParseOptions(changed)
	if err != nil {
		return err
	}
	return m.checkDurability(ctx, o)
}

// saidNote tells whether other hosts hear of what was set.
func (m *Manager) saidNote(r *record, said bool) string {
	switch {
	case said:
		return fmt.Sprintf("other hosts hear of it by %s@%d, a state of the same files", r.Name, r.Sequence)
	case len(r.Unsaid) > 0 && r.shared() && (m.o.Leases != nil || m.o.Replicate != nil) && m.mayChange(r) == nil:
		return "other hosts hear of it by the next commit that is made here"
	}
	return ""
}
