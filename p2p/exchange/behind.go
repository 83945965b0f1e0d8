package exchange

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// askBehind has the source behind the peers asked for what none of these has. It is called with mu held.
func (x *Exchange) askBehind() {
	if x.o.Behind == nil {
		return
	}
	now := time.Now()
	var ws []*want
	for _, w := range x.queue {
		if w.behind || w.flights > 0 || now.Before(w.later) || x.held > x.o.Held && !w.urgent || x.asksOwn(w) {
			continue
		}
		w.behind, w.since = true, now
		ws = append(ws, w)
	}
	if len(ws) > 0 {
		x.work.Go(func() { x.fromBehind(ws) })
	}
}

func (x *Exchange) fromBehind(ws []*want) {
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	stop := x.whenUnwanted(ws, cancel)
	defer stop()
	cs := make([]cid.Cid, len(ws))
	for i, w := range ws {
		cs[i] = w.c
	}
	var keep keeper
	defer func() { keep.flush(x) }()
	i := 0
	for b, err := range x.o.Behind.GetMany(ctx, cs...) {
		w := ws[i]
		i++
		if err == nil && b.Cid() == w.c && snapshot.CheckHash(b) == nil {
			x.deliver(w, b)
			keep.add(x, b)
			continue
		}
		x.mu.Lock()
		w.behind, w.later, w.said = false, time.Now().Add(askAgain), err
		x.mu.Unlock()
	}
}
