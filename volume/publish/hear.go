package publish

import (
	"context"

	"github.com/volary/volary/head/table"
)

// Hear puts what other hosts told, verified, into the table, and returns how many volumes moved by it. The histories of
// heads are got first, as by Learn; what could not be had then is for Settle.
func (h *Heads) Hear(ctx context.Context, told table.News) (moved int, _ error) {
	if err := h.fetch(ctx, told.Heads); err != nil {
		return 0, err
	}
	volumes, err := h.o.Table.Learn(ctx, table.News{Heads: told.Heads, Bindings: told.Bindings})
	return len(volumes), err
}

// Settle looks again at heads that count as forks, perhaps only because their histories were not here.
func (h *Heads) Settle(ctx context.Context) error {
	vs, err := h.o.Table.Volumes()
	if err != nil {
		return err
	}
	for _, v := range vs {
		if len(v.Forks) == 0 {
			continue
		}
		if err := h.fetch(ctx, v.Forks); err != nil {
			return err
		}
		if err := h.o.Table.Settle(ctx, v.Key); err != nil {
			return err
		}
	}
	return nil
}

// Own calls tell with everything that this host does from now on, until ctx is done or tell returns an error. What is
// too much for tell to follow is left out.
func (h *Heads) Own(ctx context.Context, tell func(table.News) error) error {
	w := h.o.Table.Watch()
	defer w.Close()
	for {
		c, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if c.Missed || !c.Own {
			continue
		}
		v, err := h.o.Table.Volume(c.Volume)
		if err != nil {
			return err
		}
		news := table.News{Heads: c.Heads}
		if v.Binding.Data == nil || len(c.Heads) == 0 && v.Head.Record == nil {
			continue // the other one of the two is still to come
		}
		news.Bindings = append(news.Bindings, v.Binding)
		if err := tell(news); err != nil {
			return err
		}
	}
}
