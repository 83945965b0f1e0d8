package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// A Sweep is one collection, from BeginSweep to Close: the caller marks what must stay, then calls Remove and
// Compact. Writers go on meanwhile: blocks put after the beginning are no candidates, and what a session
// protects, or protected at any time since the beginning, stays. Mark is safe for concurrent use.
type Sweep struct {
	s       *Store
	packs   map[uint32]*census // the candidates
	decided atomic.Bool        // Remove has begun: what is not marked is going
	// Where blocks are put since the beginning: in the active pack from its tail on, and in packs from next on.
	tail place
	next uint32

	retired []*Session // closed since the beginning; guarded by Store.mu

	mu    sync.Mutex
	extra map[cid.Cid]struct{} // marked, but no candidates
}

// Usage counts blocks and their bytes.
type Usage = struct{ Blocks, Bytes int64 }

// A census lists the blocks of one pack by offset, with marks for each: one bit for each class of codec, since
// the same bytes may be a leaf under one CID and have links under another.
type census struct {
	offs  []uint32
	marks []atomic.Uint32 // four bits a block
}

const markAll = 0xf

func markClass(codec uint64) uint32 {
	switch codec {
	case cid.Raw:
		return 1
	case cid.DagProtobuf:
		return 2
	case cid.DagCBOR:
		return 4
	default:
		return 8
	}
}

// at finds a block, -1 if it is not in the census.
func (c *census) at(off int64) int {
	if c == nil || off>>32 != 0 {
		return -1
	}
	if i, ok := slices.BinarySearch(c.offs, uint32(off)); ok {
		return i
	}
	return -1
}

func (c *census) mark(i int, class uint32) (first bool) {
	bit := class << (i % 8 * 4)
	return c.marks[i/8].Or(bit)&bit == 0
}

func (c *census) marked(i int, class uint32) bool {
	return c.marks[i/8].Load()>>(i%8*4)&class != 0
}

// BeginSweep begins a collection; ErrBusy if there is one already. All that is stored by now is a candidate.
func (s *Store) BeginSweep(ctx context.Context) (*Sweep, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	sw := &Sweep{s: s, packs: make(map[uint32]*census), extra: make(map[cid.Cid]struct{})}
	s.gate.Lock()
	s.mu.Lock()
	busy := s.sweep != nil
	sw.next = s.nextPack
	if s.active != nil {
		sw.tail = place{s.active.id, s.active.tail}
	}
	if !busy {
		s.sweep = sw
		for sess := range s.sessions {
			sess.rewind()
		}
	}
	s.mu.Unlock()
	s.gate.Unlock()
	if busy {
		return nil, ErrBusy
	}
	if err := sw.count(ctx); err != nil {
		sw.Close()
		return nil, fmt.Errorf("begin collection: %w", err)
	}
	return sw, nil
}

func (sw *Sweep) count(ctx context.Context) error {
	if err := sw.s.Sync(ctx); err != nil {
		return err
	}
	err := sw.s.entries(ctx, func(_ string, e entry) error {
		if e.pack >= sw.next || e.pack == sw.tail.pack && e.off >= sw.tail.off {
			return nil
		}
		c := sw.packs[e.pack]
		if c == nil {
			c = new(census)
			sw.packs[e.pack] = c
		}
		c.offs = append(c.offs, uint32(e.off))
		return nil
	})
	for _, c := range sw.packs {
		slices.Sort(c.offs)
		c.marks = make([]atomic.Uint32, len(c.offs)/8+1)
	}
	return err
}

// Close ends the collection, wherever it is.
func (sw *Sweep) Close() error {
	sw.s.mu.Lock()
	defer sw.s.mu.Unlock()
	if sw.s.sweep == sw {
		sw.s.sweep = nil
	}
	return nil
}

// Roots returns the roots that sessions keep with all below them, except those an earlier call returned.
func (sw *Sweep) Roots() []cid.Cid {
	var roots []cid.Cid
	for _, x := range sw.sessions() {
		roots = append(roots, x.newRoots()...)
	}
	return roots
}

func (sw *Sweep) sessions() []*Session {
	sw.s.mu.RLock()
	defer sw.s.mu.RUnlock()
	list := slices.Clone(sw.retired)
	for x := range sw.s.sessions {
		list = append(list, x)
	}
	return list
}

// Mark says that c stays. It tells whether the block is there, and whether this CID was marked for the first
// time: then the caller goes on to its links. A lost block is not there, and stays known as lost.
func (sw *Sweep) Mark(ctx context.Context, c cid.Cid) (first, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, false, err
	}
	n, err := nameOf(c)
	if err != nil {
		return false, false, err
	}
	if !n.identity {
		e, ok, err := sw.s.find(n.hash)
		if err != nil || !ok {
			return false, false, err
		}
		census := sw.packs[e.pack]
		if i := census.at(e.off); i >= 0 {
			return census.mark(i, markClass(n.codec)), !sw.s.lost(e), nil
		}
	}
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if _, ok := sw.extra[c]; ok {
		return false, true, nil
	}
	sw.extra[c] = struct{}{}
	return true, true, nil
}

// spares tells whether a root that is complete stays so: it does before the sweep decides, and after that if
// it was marked or is younger than the sweep.
func (sw *Sweep) spares(e entry, codec uint64) bool {
	if sw == nil || !sw.decided.Load() {
		return true
	}
	c := sw.packs[e.pack]
	i := c.at(e.off)
	return i < 0 || c.marked(i, markClass(codec))
}

// Remove takes what is not marked and not protected out of the index. Before, while no presence of a block
// can be decided elsewhere, it calls last, which marks what was handed out since the caller looked: Roots, and
// pins added; it tells whether something live was found to lack a block, which makes every complete mark void,
// whatever its error. With dryRun it only counts. Get no longer finds what it removed; Compact gives the space
// back.
func (sw *Sweep) Remove(ctx context.Context, dryRun bool, last func(context.Context) (lacking bool, err error)) (kept, removed Usage, err error) {
	if err := sw.decide(ctx, dryRun, last); err != nil {
		return kept, removed, err
	}
	if !dryRun {
		if err := sw.dropMarks(ctx); err != nil {
			return kept, removed, fmt.Errorf("drop complete marks: %w", err)
		}
	}
	if kept, removed, err = sw.removeDead(ctx, dryRun); err != nil {
		return kept, removed, fmt.Errorf("remove dead blocks: %w", err)
	}
	if dryRun {
		return kept, removed, nil
	}
	return kept, removed, sw.dropStats(ctx)
}

func (sw *Sweep) decide(ctx context.Context, dryRun bool, last func(context.Context) (bool, error)) error {
	sw.s.gate.Lock()
	defer sw.s.gate.Unlock()
	lacking, err := last(ctx)
	if dryRun {
		return err
	}
	if lacking {
		if err := sw.s.void(); err != nil {
			return err
		}
	}
	if err == nil {
		sw.decided.Store(true)
	}
	return err
}

// sweepBatch is the number of entries decided on in one go, while Put and Has wait.
const sweepBatch = 1 << 14

// dropMarks voids the complete marks of what is not marked live, before anything below can go: of the dead,
// since a crash may leave a root whose children are gone, and of those only a session's touch keeps.
func (sw *Sweep) dropMarks(ctx context.Context) error {
	return sw.batches(ctx, StepMarksDropped, func(hash string, e entry) bool {
		return e.complete != 0 && !sw.spares(e, e.complete-1)
	}, func(b *pebble.Batch, hash string, e entry) {
		e.complete, e.epoch = 0, 0
		b.Set(blockKey(hash), e.encode(), nil)
	})
}

func (sw *Sweep) removeDead(ctx context.Context, dryRun bool) (kept, removed Usage, _ error) {
	dead := func(hash string, e entry) bool {
		c := sw.packs[e.pack]
		i := c.at(e.off)
		if i < 0 || c.marked(i, markAll) {
			return false
		}
		for _, x := range sw.sessions() {
			if x.protects(hash, e) {
				return false
			}
		}
		return true
	}
	err := sw.s.entries(ctx, func(hash string, e entry) error {
		u := &kept
		if dryRun && dead(hash, e) {
			u = &removed
		}
		u.Blocks++
		u.Bytes += int64(e.size)
		return nil
	})
	if dryRun || err != nil {
		return kept, removed, err
	}
	err = sw.batches(ctx, StepSwept, dead, func(b *pebble.Batch, hash string, e entry) {
		removed.Blocks++
		removed.Bytes += int64(e.size)
		kept.Blocks--
		kept.Bytes -= int64(e.size)
		b.Delete(blockKey(hash), nil)
	})
	return kept, removed, err
}

// batches runs change over the entries that want picks, in durable batches. It looks a second time, with the
// gate shut, at those it picked.
func (sw *Sweep) batches(ctx context.Context, step string, want func(string, entry) bool, change func(*pebble.Batch, string, entry)) error {
	var picked []string
	flush := func() error {
		if len(picked) == 0 {
			return nil
		}
		if err := sw.change(picked, want, change); err != nil {
			return err
		}
		picked = picked[:0]
		sw.s.step(step)
		return nil
	}
	err := sw.s.entries(ctx, func(hash string, e entry) error {
		if !want(hash, e) {
			return nil
		}
		if picked = append(picked, hash); len(picked) < sweepBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (sw *Sweep) change(picked []string, want func(string, entry) bool, change func(*pebble.Batch, string, entry)) error {
	s := sw.s
	s.gate.Lock()
	defer s.gate.Unlock()
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	b := s.index.db.NewBatch()
	for _, hash := range picked {
		e, ok, err := s.index.get(hash)
		if err != nil {
			return err
		}
		if ok && want(hash, e) {
			change(b, hash, e)
		}
	}
	if err := s.index.commit(b, true); err != nil {
		return s.fail(err)
	}
	return nil
}

// dropStats deletes stat records that have not been used for StatLifetime.
func (sw *Sweep) dropStats(ctx context.Context) error {
	s := sw.s
	b := s.index.db.NewBatch()
	oldest := today() - uint64(StatLifetime.Hours()/24)
	err := s.index.scan([]byte{keyStat}, func(key, value []byte) error {
		day, _, err := decodeStat(value)
		if err == nil && day < oldest {
			b.Delete(statKey(string(key)), nil)
		}
		return err
	})
	if err != nil || b.Empty() {
		return err
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	if err := s.index.commit(b, true); err != nil {
		return s.fail(err)
	}
	return nil
}

// void makes every complete mark void.
func (s *Store) void() error {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	epoch, err := s.index.epoch()
	if err != nil {
		return err
	}
	b := s.index.db.NewBatch()
	b.Set([]byte(metaEpoch), binary.AppendUvarint(nil, epoch+1), nil)
	if err := s.index.commit(b, true); err != nil {
		return s.fail(err)
	}
	return nil
}
