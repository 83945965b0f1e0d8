// Package store keeps blocks on the local disk: the embedded [snapshot.Blocks], and the default one.
//
// Start with [Open]. A [Store] writes blocks into large append-only pack files and finds them through a
// Pebble index; [Store.Session] is for writers whose work must survive a collection that runs meanwhile, and
// [Store.BeginSweep] is that collection. A small table of records ([Store.SetRecords]) holds what other
// packages must keep beside the blocks: pins, tags, marks.
//
// It guarantees: bytes that do not match their CID are never returned (but by GetUnchecked, which says so); the index never names a block whose
// bytes are not on the disk, at whatever instant the power goes; what Sync covered is found again after a
// power cut, and what Put returned from is found again after the end of the process; one process has a store
// open for writing. A pack file that is missing or too short costs the blocks in it and no others: they are
// [snapshot.ErrDamaged] until they are put again.
//
// Blocks are indexed by multihash: one copy serves every CID, of either version and any codec, that names the
// same bytes.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

var (
	// ErrLocked says that another process has the store open. The message names its process id.
	ErrLocked = errors.New("store is in use")
	// ErrNewer says that a newer version of the program wrote the store.
	ErrNewer = errors.New("store was written by a newer version")
	// ErrCorrupt says that files of the store are missing or not what they should be. The message names one.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrReadOnly says that a write was asked of a store that cannot be written to.
	ErrReadOnly = errors.New("store is read-only")
	// ErrClosed says that a store or session was used after Close.
	ErrClosed = errors.New("store is closed")
	// ErrBusy says that a sweep is running already.
	ErrBusy = errors.New("a collection is running")
)

// DefaultPackSize is the size in bytes at which a pack file is left and the next one begun.
const DefaultPackSize = 1 << 30

// maxPackSize keeps offsets, those of the last blocks beyond it included, within 32 bits.
const maxPackSize = 2 << 30

// Keys of the log.
const (
	logError  = "error"
	logFile   = "file"
	logPack   = "pack"
	logBlocks = "blocks"
	logTorn   = "torn" // bytes cut off
	logLost   = "lost" // bytes that the index knows and the file does not have
	logHint   = "hint" // what to do about it
)

// Options say how a store is opened. The zero value opens for writing and creates what is missing.
type Options struct {
	Logger   *slog.Logger // nil discards
	ReadOnly bool         // opens an existing store beside other readers and changes no file
	PackSize int64        // where a pack ends, in bytes; 0 is DefaultPackSize

	// Step, if set, is called right after each durable step with the step's label (see Steps), so that
	// tests can stop the world there.
	Step func(label string)
}

// Store is a directory of blocks. It must be made by Open. All methods are safe for concurrent use.
type Store struct {
	dir      string
	log      *slog.Logger
	step     func(string)
	readOnly bool
	packSize int64
	lock     *os.File
	index    *index
	ballast  *ballast
	flusher  *flusher
	buffers  sync.Pool // of *[]byte, for headers and small blocks

	// What noteLosses found; nothing of it changes once the store is open.
	short   map[uint32]packState // by number
	unnoted bool                 // losses that only a writer could note: no complete mark counts

	// gate is held shared while a block's presence is decided and the block protected, exclusively while a
	// sweep decides what goes. It is taken before all other locks.
	gate sync.RWMutex

	mu       sync.RWMutex
	packs    map[uint32]*pack
	active   *pack            // where blocks are appended; nil before the first
	nextPack uint32           // number of the next pack to be created
	pending  map[string]*pend // by multihash: written or being written, not in the index yet
	batch    flushBatch       // what the next flush takes
	flushes  uint64           // counts flushes that moved entries from pending to the index
	sessions map[*Session]struct{}
	sweep    *Sweep
	failed   error // why nothing can be written any more until the store is opened again
	closed   bool
}

var _ snapshot.Blocks = (*Store)(nil)

// Get returns the block c names, its bytes checked.
func (s *Store) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := s.GetInto(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// GetInto is Get into the caller's memory: the bytes are in buf if its capacity suffices, else in new memory.
func (s *Store) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	return s.get(ctx, c, buf, s.find)
}

// GetUnchecked is GetInto without a look at whether the bytes match c: for who passes them on to somebody who checks
// them, as other hosts do.
func (s *Store) GetUnchecked(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	return s.getNamed(ctx, c, buf, s.find, func(name, []byte) error { return nil })
}

// A finder looks up where a block is.
type finder func(hash string) (entry, bool, error)

func (s *Store) get(ctx context.Context, c cid.Cid, buf []byte, find finder) ([]byte, error) {
	return s.getNamed(ctx, c, buf, find, name.verify)
}

func (s *Store) getNamed(ctx context.Context, c cid.Cid, buf []byte, find finder, check func(name, []byte) error) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n, err := nameOf(c)
	if err != nil {
		return nil, err
	}
	if n.identity {
		return append(buf[:0], n.hash[n.digestAt:]...), nil
	}
	data, err := s.read(n.hash, buf, find)
	if err == nil {
		err = check(n, data)
	}
	if err != nil {
		return nil, fmt.Errorf("get block %s: %w", c, err)
	}
	return data, nil
}

// Has tells for each CID whether its block is indexed, and not in a part of a pack that was missing when the
// store was opened.
func (s *Store) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	return s.has(ctx, nil, cs)
}

// Put stores blocks.
func (s *Store) Put(ctx context.Context, bs ...blocks.Block) error {
	return s.put(ctx, nil, bs)
}

// Sync makes durable what was put. Concurrent calls share one flush. Once somebody has deleted the store it fails with
// ErrCorrupt.
func (s *Store) Sync(ctx context.Context) error {
	if s.readOnly {
		return nil
	}
	if err := s.flusher.sync(ctx); err != nil {
		return err
	}
	return s.here()
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) has(ctx context.Context, sess *Session, cs []cid.Cid) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	found := make([]bool, len(cs))
	for i, c := range cs {
		n, err := nameOf(c)
		if err != nil {
			return nil, err
		}
		if n.identity {
			found[i] = true
			continue
		}
		e, ok, err := s.find(n.hash)
		if err != nil {
			return nil, fmt.Errorf("look up block %s: %w", c, err)
		}
		found[i] = ok && !s.lost(e)
		if found[i] && sess != nil {
			sess.touch(n.hash, e)
		}
	}
	return found, nil
}

// find looks a block up, first among those not indexed yet: an entry moves from there into the index, and is
// seen in one of the two by whoever asks in that order.
func (s *Store) find(hash string) (entry, bool, error) {
	s.mu.RLock()
	p := s.pending[hash]
	if p != nil && p.visible {
		e := p.entry
		s.mu.RUnlock()
		return e, true, nil
	}
	s.mu.RUnlock()
	return s.index.get(hash)
}

func (s *Store) writable() error {
	if s.readOnly {
		return ErrReadOnly
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return s.failed
}

// fail keeps everything from being written after an error that leaves unknown what the disk holds: a failed
// fsync drops the pages it could not write, and a second one would wrongly succeed.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("store %s must be opened again: %w", s.dir, err)
	}
	return s.failed
}
