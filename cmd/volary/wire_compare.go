package main

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/volume/publish"
)

// metaHost is the note at people's pins in the cluster that says which host pinned last: its peer ID.
const metaHost = "host"

const (
	compareEvery = time.Hour
	compareTime  = 10 * time.Minute // that one comparison may take
)

// compared is what came of comparing what this host keeps with what the cluster lists.
type compared struct {
	Told   int // pins that it lacked, and gets now
	Untold int // pins of this host that are to go
}

// told is a pin as the cluster lists it.
type told struct {
	root  cid.Cid
	owner string
}

// compare queues what the cluster lacks of what this host keeps, people's pins and the heads that it made, and what the
// cluster keeps in the name of people that only this host wanted, and wants no more. The cluster's list is read once, and
// what others did to volumes is learned from it before it is judged.
func (r *remote) compare(ctx context.Context, dryRun bool) (c compared, _ error) {
	if r.cluster == nil {
		return c, nil
	}
	ctx, done := context.WithTimeout(ctx, compareTime)
	defer done()
	var lacking []told
	for p, err := range r.kept.All(ctx) {
		if err != nil {
			return c, err
		}
		if p.Owner == "" && !expired(p) {
			lacking = append(lacking, told{p.Root, ""})
		}
	}
	listed, mine, err := r.listed(ctx)
	if err != nil {
		return c, err
	}
	waiting := map[told]outbox.Op{}
	for _, w := range r.outbox.Waiting() {
		waiting[told{w.Pin.Root, w.Pin.Owner}] = w.Op
	}
	for _, t := range lacking {
		if !listed[t] && waiting[t] != outbox.Pin {
			if err := r.tellAgain(ctx, t, dryRun, &c.Told); err != nil {
				return c, err
			}
		}
	}
	for _, t := range mine {
		if waiting[t] != outbox.Unpin {
			if err := r.untell(ctx, t, dryRun, &c.Untold); err != nil {
				return c, err
			}
		}
	}
	if r.heads == nil {
		return c, nil
	}
	n, err := r.heads.TellAgain(ctx, dryRun, func(p pinset.Pin) (bool, error) {
		t := told{p.Root, p.Owner}
		if listed[t] || waiting[t] == outbox.Pin {
			return false, nil
		}
		return r.madeHere(ctx, p.Root)
	})
	c.Told += n
	return c, err
}

// listed reads the cluster's list: what is in it, and people's pins in it that this host made.
func (r *remote) listed(ctx context.Context) (listed map[told]bool, mine []told, err error) {
	listed = map[told]bool{}
	var pins iter.Seq2[pinset.Pin, error] = func(yield func(pinset.Pin, error) bool) {
		for p, err := range r.cluster.All(ctx) {
			if err == nil {
				t := told{p.Root, p.Owner}
				listed[t] = true
				if p.Owner == "" && p.Meta[metaHost] == r.id {
					mine = append(mine, t)
				}
			}
			if !yield(p, err) {
				return
			}
		}
	}
	if r.heads != nil {
		return listed, mine, r.learn(ctx, pins)
	}
	for _, err := range pins {
		if err != nil {
			return nil, nil, err
		}
	}
	return listed, mine, nil
}

// tellAgain queues a pin that the cluster lacks, if this host still has it.
func (r *remote) tellAgain(ctx context.Context, t told, dryRun bool, n *int) error {
	return r.kept.Settled(ctx, t.root, t.owner, func(p pinset.Pin, pinned bool) error {
		if !pinned {
			return nil
		}
		*n++
		if dryRun {
			return nil
		}
		return r.outbox.Put(ctx, r.peoplesWish(p))
	})
}

// untell queues the end of a pin that this host made and does not have. One that its records do not know of
// is another's with the same identity, such as a copy of them.
func (r *remote) untell(ctx context.Context, t told, dryRun bool, n *int) error {
	return r.kept.Settled(ctx, t.root, t.owner, func(_ pinset.Pin, pinned bool) error {
		if pinned {
			return nil
		}
		known, err := r.kept.Known(ctx, t.root)
		if err != nil || !known {
			return err
		}
		*n++
		if dryRun {
			return nil
		}
		return r.outbox.Put(ctx, outbox.Entry{Op: outbox.Unpin, Pin: pinset.Pin{Root: t.root, Owner: t.owner}})
	})
}

// madeHere reports whether this host made a commit, be it one that ends a volume, and keeps it.
func (r *remote) madeHere(ctx context.Context, commit cid.Cid) (bool, error) {
	st, err := r.kept.Status(ctx, commit)
	if err != nil || st.State == pinset.Unpinned {
		return false, err
	}
	for _, p := range st.Pins {
		if strings.HasPrefix(p.Owner, publish.EndOwner) {
			return true, nil
		}
	}
	return r.kept.OwnBy(ctx, commit, uint32(os.Geteuid()))
}

// expired reports whether the cluster was to let go of a pin by now.
func expired(p pinset.Pin) bool {
	at, err := time.Parse(time.RFC3339, p.Meta[metaExpire])
	return err == nil && !at.After(time.Now())
}

// peoplesWish is the wish that the cluster keeps a pin which is no volume's.
func (r *remote) peoplesWish(p pinset.Pin) outbox.Entry {
	args := placed(p.Meta)
	p = peoplesPin(p)
	p.Meta = map[string]string{metaHost: r.id}
	return outbox.Entry{Op: outbox.Pin, Pin: p, Keep: true, Args: args}
}

// compareAgain compares now, and then every hour, until ctx is done; while the cluster is away, as often as it is asked
// for news.
func (r *remote) compareAgain(ctx context.Context, log *slog.Logger) {
	if r.cluster == nil {
		return
	}
	for {
		next := compareEvery
		c, err := r.compare(ctx, false)
		switch {
		case errors.Is(err, pinset.ErrUnavailable):
			next = refreshEvery
		case err != nil && ctx.Err() == nil:
			log.Warn("cannot compare what is kept with the cluster's list", "error", err)
		case c != compared{}:
			log.Info("the cluster's list was not what this host keeps", "told", c.Told, "untold", c.Untold)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}
