// Package cached keeps what was got from a slow [snapshot.Blocks] in a local directory of bounded size.
//
// Start with [Open]. A cache may be lost, and is never wrong: what comes from it was checked against its CID, and what
// does not match is got again. It says nothing of what is stored: Has, Put and Sync are those of the slow Blocks. What
// was least recently got goes first, also while others read it.
//
// The directory holds segments, files that are only appended to. Of a segment that is nearly the oldest, a block that
// is got is appended again; the oldest is removed as a whole. So there is nothing to repair after a crash.
package cached

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
)

// ErrLocked says that another process uses the directory.
var ErrLocked = errors.New("cache is in use")

const (
	// DefaultSize is the bound of a cache in bytes.
	DefaultSize = 10 << 30
	// parts is how many segments a full cache has.
	parts    = 16
	lockFile = "lock"
	// window is how many blocks GetMany looks up together.
	window = 64
)

// Options of a cache. The zero value is useful.
type Options struct {
	Size int64 // bytes that the directory may take; DefaultSize if zero
}

// Stats count what a cache has and did.
type Stats struct {
	Blocks       int
	Bytes        int64 // of the directory's files
	Hits, Misses uint64
	Damaged      uint64 // blocks that did not match their CIDs and were got again
	Unwritten    uint64 // blocks that could not be kept
}

// Blocks are a slow Blocks and its cache. All methods are safe for concurrent use.
type Blocks struct {
	slow snapshot.Blocks
	dir  string
	size int64
	lock *os.File

	hits, misses, damaged, unwritten atomic.Uint64

	mu       sync.Mutex
	index    map[string]place // by multihash
	segments []*segment       // oldest first; the last is appended to
	total    int64            // bytes of all segments
	next     uint64           // number of the next segment
}

var (
	_ snapshot.Blocks     = (*Blocks)(nil)
	_ snapshot.ManyGetter = (*Blocks)(nil)
)

// Open opens the cache in dir, or makes it. Slow stays the caller's to close.
func Open(slow snapshot.Blocks, dir string, o Options) (*Blocks, error) {
	if o.Size <= 0 {
		o.Size = DefaultSize
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	b := &Blocks{slow: slow, dir: dir, size: o.Size, lock: lock, index: map[string]place{}}
	if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err == nil {
		err = b.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open cache %s: %w", dir, err), b.Close())
	}
	return b, nil
}

// Seize takes the lock of a cache away from a process that cannot let go of it, and will never touch it again. Nobody
// opens the cache meanwhile.
func Seize(dir string) error {
	if err := os.Remove(filepath.Join(dir, lockFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seize cache: %w", err)
	}
	return nil
}

// Close lets go of the directory. Nothing may be under way.
func (b *Blocks) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A process forked this instant shares the lock until its exec: closing alone would leave it locked.
	errs := []error{unix.Flock(int(b.lock.Fd()), unix.LOCK_UN), b.lock.Close()}
	for _, s := range b.segments {
		errs = append(errs, s.file.Close())
	}
	b.segments, b.index, b.total = nil, map[string]place{}, 0
	return errors.Join(errs...)
}

// Stats returns what the cache has and did.
func (b *Blocks) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{
		Blocks: len(b.index), Bytes: b.total, Hits: b.hits.Load(), Misses: b.misses.Load(),
		Damaged: b.damaged.Load(), Unwritten: b.unwritten.Load(),
	}
}

// Get implements [snapshot.Blocks].
func (b *Blocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if blk := b.cached(c); blk != nil {
		return blk, nil
	}
	blk, err := b.slow.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	b.keep(blk)
	return blk, nil
}

// GetMany implements [snapshot.ManyGetter]: what is not in the cache is got together.
func (b *Blocks) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for rest := cs; len(rest) > 0; {
			n := min(window, len(rest))
			if !b.getWindow(ctx, rest[:n], yield) {
				return
			}
			rest = rest[n:]
		}
	}
}

func (b *Blocks) getWindow(ctx context.Context, cs []cid.Cid, yield func(blocks.Block, error) bool) bool {
	var missing []cid.Cid
	for _, c := range cs {
		if _, ok := b.find(c); !ok {
			missing = append(missing, c)
		}
	}
	next, stop := iter.Pull2(snapshot.GetMany(ctx, b.slow, missing...))
	defer stop()
	for _, c := range cs {
		var blk blocks.Block
		var err error
		if len(missing) > 0 && missing[0] == c {
			missing = missing[1:]
			if blk, err, _ = next(); err == nil {
				b.misses.Add(1)
				b.keep(blk)
			}
		} else {
			blk, err = b.Get(ctx, c) // it may have left the cache meanwhile
		}
		if !yield(blk, err) {
			return false
		}
	}
	return true
}

// Has implements [snapshot.Blocks]: what is in the cache alone may be lost.
func (b *Blocks) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	return b.slow.Has(ctx, cs...)
}

// Put implements [snapshot.Blocks].
func (b *Blocks) Put(ctx context.Context, bs ...blocks.Block) error { return b.slow.Put(ctx, bs...) }

// Sync implements [snapshot.Blocks].
func (b *Blocks) Sync(ctx context.Context) error { return b.slow.Sync(ctx) }

// cached returns a block from the cache, or nil.
func (b *Blocks) cached(c cid.Cid) blocks.Block {
	p, ok := b.find(c)
	if !ok {
		b.misses.Add(1)
		return nil
	}
	data := make([]byte, p.size)
	if _, err := p.segment.file.ReadAt(data, p.offset); err != nil {
		b.misses.Add(1) // removed meanwhile, or cut
		return nil
	}
	blk, err := blocks.NewBlockWithCid(data, c)
	if err != nil || snapshot.CheckHash(blk) != nil {
		b.damaged.Add(1)
		b.forget(c, p)
		return nil
	}
	b.hits.Add(1)
	if b.aging(p) {
		b.write(blk, p)
	}
	return blk
}

// keep puts a block into the cache, unless it is there.
func (b *Blocks) keep(blk blocks.Block) {
	if _, there := b.find(blk.Cid()); !there {
		b.write(blk, place{})
	}
}
