package publish

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

const (
	// fetchTime is how long Learn waits for the histories of heads that are not here.
	fetchTime = 2 * time.Second
	// fetchAtOnce is how many of them are got at a time.
	fetchAtOnce = 16
)

// Learn reads a set of pins that others may have written, and returns how many times a volume moved by it, and how many
// pins were no head that can be believed, those of other purposes not among them. The histories of heads are got first,
// if that can be done within a moment: otherwise a head counts as a fork of those before it until it can.
//
// What is known is not verified again. What was learned before an error, or before ctx ended, stays: the next call goes
// on after it.
func (h *Heads) Learn(ctx context.Context, pins iter.Seq2[pinset.Pin, error]) (moved, refused int, _ error) {
	known, err := h.known()
	if err != nil {
		return 0, 0, err
	}
	var batch news
	var dropped directory.Dropped
	for e, err := range directory.Entries(h.o.Namespace, batch.unknown(h, known, pins), &dropped) {
		if err != nil {
			return moved, 0, err
		}
		if batch.add(e); len(batch.Heads) == learnAtOnce {
			n, err := h.learn(ctx, &batch)
			if moved += n; err != nil {
				return moved, 0, err
			}
		}
	}
	n, err := h.learn(ctx, &batch)
	return moved + n, dropped.Oversized + dropped.Malformed + dropped.Forged + dropped.Misnamed, err
}

// learnAtOnce is how many heads are learned in one step.
const learnAtOnce = 256

// mostSeen bounds the memory for pins that were learned from.
const mostSeen = 1 << 17

// news is what pins said that is not learned yet.
type news struct {
	table.News
	last fingerprint // of the pin that was read last
	seen []fingerprint
}

// fingerprint is of all that a pin says.
type fingerprint [sha256.Size]byte

func fingerprintOf(p pinset.Pin) fingerprint {
	h := sha256.New()
	for _, s := range []string{p.Root.KeyString(), p.Name, p.Meta[directory.KeyHead], p.Meta[directory.KeyBinding]} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return fingerprint(h.Sum(nil))
}

// unknown leaves out the pins that say what is known, or what was learned before.
func (n *news) unknown(h *Heads, known map[fingerprint]bool, pins iter.Seq2[pinset.Pin, error]) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		for p, err := range pins {
			if n.last = fingerprintOf(p); err == nil && (known[n.last] || h.hasSeen(n.last)) {
				continue
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

func (n *news) add(e directory.Entry) {
	n.Heads, n.Bindings, n.seen = append(n.Heads, e.Head), append(n.Bindings, e.Binding), append(n.seen, n.last)
}

// known are the fingerprints of pins that say what the table has.
func (h *Heads) known() (map[fingerprint]bool, error) {
	vs, err := h.o.Table.Volumes()
	known := make(map[fingerprint]bool, len(vs))
	for _, v := range vs {
		if v.Binding.Data == nil || v.Head.Record == nil || len(v.Forks) > 0 {
			continue // its forks are to be looked at again
		}
		known[fingerprintOf(directory.Trusted(directory.Entry{Head: v.Head, Binding: v.Binding}))] = true
	}
	return known, err
}

func (h *Heads) hasSeen(f fingerprint) bool {
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	return h.seen[f]
}

// learn puts a batch into the table, and empties it.
func (h *Heads) learn(ctx context.Context, n *news) (moved int, _ error) {
	if err := h.fetch(ctx, n.Heads); err != nil {
		return 0, err
	}
	volumes, err := h.o.Table.Learn(ctx, n.News)
	if err != nil {
		return 0, err
	}
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	if len(h.seen) >= mostSeen {
		clear(h.seen)
	}
	for i, f := range n.seen {
		// A head that may be a fork only because its history is not here is read again.
		if v, err := h.volume(n.Heads[i].Volume.String()); err == nil && len(v.Forks) == 0 {
			h.seen[f] = true
		}
	}
	*n = news{last: n.last}
	return len(volumes), nil
}

// fetch gets the histories of volumes of which several heads are known, back to the oldest.
func (h *Heads) fetch(ctx context.Context, told []head.Head) error {
	volumes := map[ipns.Name][]head.Head{}
	for _, t := range told {
		if _, known := volumes[t.Volume]; !known {
			v, err := h.volume(t.Volume.String())
			if err != nil {
				return err
			}
			volumes[t.Volume] = v.Tips()
		}
		volumes[t.Volume] = append(volumes[t.Volume], t)
	}
	ctx, done := context.WithTimeout(ctx, fetchTime)
	defer done()
	var work sync.WaitGroup
	free := make(chan struct{}, fetchAtOnce)
	for _, heads := range volumes {
		slices.SortFunc(heads, func(a, b head.Head) int { return b.State().Compare(a.State()) })
		if heads = slices.CompactFunc(heads, func(a, b head.Head) bool { return a.Commit == b.Commit }); len(heads) < 2 {
			continue
		}
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			fetchHistories(ctx, h.o.Blocks, heads)
		})
	}
	work.Wait()
	return nil
}

// fetchHistories gets the histories of heads, the latest first, back to the last one, of those that are in no other one's.
// What cannot be had is looked for again the next time.
func fetchHistories(ctx context.Context, b snapshot.Blocks, heads []head.Head) {
	oldest := heads[len(heads)-1]
	covered := map[cid.Cid]bool{}
	for _, h := range heads[:len(heads)-1] {
		if covered[h.Commit] {
			continue
		}
		blk, err := b.Get(ctx, h.Commit)
		if err != nil {
			continue
		}
		commit, err := snapshot.DecodeCommit(blk)
		if err != nil {
			continue
		}
		for a, err := range snapshot.History(ctx, b, commit) {
			if err != nil || a.Sequence < oldest.Sequence {
				break
			}
			covered[a.CID] = true
		}
	}
	if !covered[oldest.Commit] {
		b.Get(ctx, oldest.Commit) // a fork is listed once its commit is here
	}
}

// History is the ancestors of commits, for [table.Open], as far as they are among the blocks that are here.
func History(b snapshot.Blocks) table.History {
	b = volume.Here{Blocks: b}
	return func(ctx context.Context, c cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
		return func(yield func(snapshot.Ancestor, error) bool) {
			commit, err := commitOf(ctx, b, c)
			if err != nil {
				yield(snapshot.Ancestor{}, err)
				return
			}
			for a, err := range snapshot.History(ctx, b, commit) {
				if !yield(a, err) || err != nil {
					return
				}
			}
		}
	}
}

func commitOf(ctx context.Context, b snapshot.Blocks, c cid.Cid) (*snapshot.Commit, error) {
	blk, err := volume.Here{Blocks: b}.Get(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return snapshot.DecodeCommit(blk)
}
