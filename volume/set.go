package volume

import (
	"context"
	"fmt"
	"maps"
)

// Set changes options of a volume; an empty value takes an option away. Those of commits count from the next one, size at once,
// those of the mount from the next overlay.
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
	options := maps.Clone(r.Options)
	if options == nil {
		options = map[string]string{}
	}
	maps.Copy(options, op.Options)
	maps.DeleteFunc(options, func(_, value string) bool { return value == "" })
	o, err := ParseOptions(options)
	if err == nil && options["durability"] != r.Options["durability"] {
		err = m.checkDurability(o)
	}
	if err != nil {
		return Result{}, err
	}
	before := r.Options["size"]
	r.Options = options
	if err := m.db.put(r); err != nil {
		return Result{}, err
	}
	if options["size"] != before && len(r.Users) > 0 && m.o.Mounter != nil {
		if err := m.mountOverlay(ctx, r); err != nil {
			return Result{}, fmt.Errorf("change the size of %s: %w", op.Name, err)
		}
	}
	return m.result(ctx, r)
}
