package publish

import (
	"context"
	"fmt"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
)

// TellAgain hands to Send the pins of those heads that are lacking, and returns how many those are; with dryRun it only
// counts. It looks at all heads in the table that are no ancestors of another.
func (h *Heads) TellAgain(ctx context.Context, dryRun bool, lacking func(pinset.Pin) (bool, error)) (n int, _ error) {
	if h.o.Send == nil {
		return 0, nil
	}
	h.sending.Lock()
	defer h.sending.Unlock()
	vs, err := h.o.Table.Volumes()
	if err != nil {
		return 0, err
	}
	for _, v := range vs {
		if v.Binding.Data == nil || v.Head.Record == nil {
			continue
		}
		for _, tip := range v.Tips() {
			p := directory.Trusted(directory.Entry{Head: tip, Binding: v.Binding})
			is, err := lacking(p)
			if err == nil && is && !dryRun {
				err = h.o.Send(ctx, v.Key.String(), p)
			}
			if err != nil {
				return n, fmt.Errorf("tell others of %s again: %w", v.Binding.Name, err)
			}
			if is {
				n++
			}
		}
	}
	return n, nil
}

// Untold counts the volumes of which Send was not given everything yet.
func (h *Heads) Untold() (int, error) {
	vs, err := h.o.Table.Unsent()
	return len(vs), err
}
