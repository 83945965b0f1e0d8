package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// A Session is a view of a store for one writer. What it puts, gets, finds present with Has, or adopts is not
// collected before Close: a snapshot is safe from its first block until its root is pinned. It must be made
// by Store.Session. All methods are safe for concurrent use.
type Session struct {
	s *Store
	// Everything at from and above was put since the session began, and is protected without being listed.
	from place
	// The epoch the session began in. What it vouches for, it may have found before a later one.
	epoch uint64

	mu      sync.Mutex
	touched map[uint64]struct{} // digests, cut short, of blocks found below from
	roots   []cid.Cid           // protected with all that is below them
	walked  int                 // how many of roots a sweep has taken
	closed  bool
}

var _ snapshot.Blocks = (*Session)(nil)

// A place is where a block's bytes are. Later puts have later places.
type place struct {
	pack uint32
	off  int64
}

func (p place) before(q place) bool {
	return p.pack < q.pack || p.pack == q.pack && p.off < q.off
}

func (e entry) place() place { return place{e.pack, e.off} }

// Session begins a session.
func (s *Store) Session(ctx context.Context) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	epoch, err := s.index.epoch()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	sess := &Session{s: s, from: place{pack: s.nextPack}, epoch: epoch, touched: make(map[uint64]struct{})}
	if s.active != nil {
		// Not its tail: if a write that is under way fails, the pack is cut back to here.
		sess.from = place{s.active.id, s.active.good}
	}
	s.sessions[sess] = struct{}{}
	return sess, nil
}

// Close ends the protection. A sweep that is under way still honours it.
func (x *Session) Close() error {
	x.s.gate.RLock()
	defer x.s.gate.RUnlock()
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if _, open := x.s.sessions[x]; !open {
		return nil
	}
	delete(x.s.sessions, x)
	if sw := x.s.sweep; sw != nil {
		sw.retired = append(sw.retired, x)
	}
	return nil
}

// Get is Store.Get, and protects the block.
func (x *Session) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := x.GetInto(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// GetInto is Store.GetInto, and protects the block.
func (x *Session) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if err := x.open(); err != nil {
		return nil, err
	}
	return x.s.get(ctx, c, buf, x.find)
}

// find is Store.find, and protects the block.
func (x *Session) find(hash string) (entry, bool, error) {
	x.s.gate.RLock()
	defer x.s.gate.RUnlock()
	e, ok, err := x.s.find(hash)
	if ok {
		x.touch(hash, e)
	}
	return e, ok, err
}

// Has is Store.Has, and protects the blocks it finds.
func (x *Session) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	if err := x.open(); err != nil {
		return nil, err
	}
	return x.s.has(ctx, x, cs)
}

// Put is Store.Put, and protects the blocks.
func (x *Session) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := x.open(); err != nil {
		return err
	}
	return x.s.put(ctx, x, bs)
}

// Sync is Store.Sync.
func (x *Session) Sync(ctx context.Context) error { return x.s.Sync(ctx) }

// Adopt tells for each root whether it and all below it are known to be stored, as SaveStat said of it. What
// it answers true for is protected with all that is below.
func (x *Session) Adopt(ctx context.Context, roots []cid.Cid) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := x.open(); err != nil {
		return nil, err
	}
	x.s.gate.RLock()
	defer x.s.gate.RUnlock()
	epoch, err := x.s.index.epoch()
	if err != nil {
		return nil, err
	}
	x.s.mu.RLock()
	sweep := x.s.sweep
	x.s.mu.RUnlock()
	adopted := make([]bool, len(roots))
	for i, c := range roots {
		n, err := nameOf(c)
		if err != nil {
			return nil, err
		}
		e, ok, err := x.s.find(n.hash)
		if err != nil {
			return nil, fmt.Errorf("look up root %s: %w", c, err)
		}
		leaf := n.codec == cid.Raw
		if !ok || x.s.lost(e) || !leaf && (x.s.unnoted || e.complete != n.codec+1 || e.epoch != epoch) {
			continue
		}
		if !leaf && !sweep.spares(e, n.codec) {
			continue
		}
		adopted[i] = true
		x.touch(n.hash, e)
		if !leaf {
			x.keep(c)
		}
	}
	return adopted, nil
}

// touch protects one block.
func (x *Session) touch(hash string, e entry) {
	if !e.place().before(x.from) {
		return
	}
	x.mu.Lock()
	x.touched[short(hash)] = struct{}{}
	x.mu.Unlock()
}

// keep protects a root and all below it.
func (x *Session) keep(root cid.Cid) {
	x.mu.Lock()
	x.roots = append(x.roots, root)
	x.mu.Unlock()
}

// protects tells whether one block is protected by itself.
func (x *Session) protects(hash string, e entry) bool {
	if !e.place().before(x.from) {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.touched[short(hash)]
	return ok
}

// newRoots returns the roots kept since the last call.
func (x *Session) newRoots() []cid.Cid {
	x.mu.Lock()
	defer x.mu.Unlock()
	roots := x.roots[x.walked:len(x.roots):len(x.roots)]
	x.walked = len(x.roots)
	return roots
}

// rewind makes newRoots return all roots again, to another sweep.
func (x *Session) rewind() {
	x.mu.Lock()
	x.walked = 0
	x.mu.Unlock()
}

func (x *Session) open() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return fmt.Errorf("session: %w", ErrClosed)
	}
	return nil
}

// short is the end of a multihash, which is part of the digest. Two blocks that share it are only kept
// longer than need be.
func short(hash string) uint64 {
	var b [8]byte
	copy(b[:], hash[max(0, len(hash)-len(b)):])
	return binary.LittleEndian.Uint64(b[:])
}
