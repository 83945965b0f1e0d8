package publish

import (
	"context"
	"iter"
	"slices"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/volume"
)

// Watch implements [volume.Heads].
func (h *Heads) Watch(ctx context.Context, current bool) iter.Seq2[volume.News, error] {
	return func(yield func(volume.News, error) bool) {
		w := h.o.Table.Watch()
		defer w.Close()
		if current && !h.yieldAll(ctx, yield) {
			return
		}
		for {
			c, err := w.Next(ctx)
			if err != nil {
				yield(volume.News{}, err)
				return
			}
			more := false
			if c.Missed {
				more = h.yieldAll(ctx, yield)
			} else {
				more = h.yieldChange(ctx, c, yield)
			}
			if !more {
				return
			}
		}
	}
}

// yieldAll yields where all volumes are that are not removed.
func (h *Heads) yieldAll(ctx context.Context, yield func(volume.News, error) bool) (more bool) {
	vs, err := h.o.Table.Volumes()
	if err != nil {
		yield(volume.News{}, err)
		return false
	}
	for _, v := range vs {
		if v.Removed() || !v.Named || v.Head.Record == nil {
			continue
		}
		if !yield(h.news(ctx, v, v.Head), nil) {
			return false
		}
	}
	return true
}

func (h *Heads) yieldChange(ctx context.Context, c table.Change, yield func(volume.News, error) bool) (more bool) {
	v, err := h.o.Table.Volume(c.Volume)
	if err != nil {
		yield(volume.News{}, err)
		return false
	}
	if v.Binding.Data == nil || v.Head.Record == nil {
		return true // the other one of the two is still to come
	}
	heads := c.Heads
	if len(heads) == 0 {
		heads = []head.Head{v.Head}
	}
	for _, tip := range heads {
		if !yield(h.news(ctx, v, tip), nil) {
			return false
		}
	}
	return true
}

func (h *Heads) news(ctx context.Context, v table.Volume, tip head.Head) volume.News {
	n := volume.News{
		ID: v.Key.String(), Name: v.Binding.Name, Head: volume.CID{Cid: tip.Commit}, Sequence: tip.Sequence,
		Fork: slices.ContainsFunc(v.Forks, func(f head.Head) bool { return f.Commit == tip.Commit }), Removed: v.Removed(),
	}
	if c, err := commitOf(ctx, h.o.Blocks, tip.Commit); err == nil {
		n.Time, n.Author = c.Time, c.Author
	}
	return n
}
