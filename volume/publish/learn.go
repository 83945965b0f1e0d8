package publish

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
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

// span is the newest head that is known of a volume, and the sequence of the oldest.
type span struct {
	newest head.Head
	oldest uint64
	heads  int
}

func (s *span) add(h head.Head) {
	switch {
	case s.heads == 0:
		s.newest, s.oldest = h, h.Sequence
	case h.Commit == s.newest.Commit:
		return
	case head.Compare(s.newest, h) < 0:
		s.newest = h
	}
	s.oldest = min(s.oldest, h.Sequence)
	s.heads++
}

// fetch gets the histories of volumes of which several heads are known, back to the oldest.
func (h *Heads) fetch(ctx context.Context, told []head.Head) error {
	spans := map[ipns.Name]*span{}
	for _, t := range told {
		s := spans[t.Volume]
		if s == nil {
			s = &span{}
			spans[t.Volume] = s
			v, err := h.volume(t.Volume.String())
			if err != nil {
				return err
			}
			if v.Head.Commit.Defined() {
				s.add(v.Head)
			}
			for _, f := range v.Forks {
				s.add(f)
			}
		}
		s.add(t)
	}
	ctx, done := context.WithTimeout(ctx, fetchTime)
	defer done()
	var work sync.WaitGroup
	free := make(chan struct{}, fetchAtOnce)
	for _, s := range spans {
		if s.heads < 2 {
			continue
		}
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			fetchHistory(ctx, h.o.Blocks, s.newest.Commit, s.oldest)
		})
	}
	work.Wait()
	return nil
}

// fetchHistory reads what History reads. What cannot be had is looked for again the next time.
func fetchHistory(ctx context.Context, b snapshot.Blocks, c cid.Cid, oldest uint64) {
	blk, err := b.Get(ctx, c)
	if err != nil {
		return
	}
	commit, err := snapshot.DecodeCommit(blk)
	if err != nil {
		return
	}
	for a, err := range snapshot.History(ctx, b, commit) {
		if err != nil || a.Sequence < oldest {
			return
		}
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
