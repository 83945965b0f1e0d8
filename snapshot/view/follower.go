package view

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
)

// The number of an entry in a mount that shows one snapshot after another: its number in its snapshot, which has fewer
// bits for slots there, and above it the generation that the snapshot is of.
const (
	followSlotLen  = 22
	generationBit  = followSlotLen + placeLen + 1
	maxGenerations = 256
)

// countsLen are the bytes at the begin of the table: for each generation how often the kernel was told of its entries
// and has not forgotten them. They are in memory that the next server has as well.
const countsLen = maxGenerations * 8

// ErrTooMany says that too many snapshots are in use that a mount showed before.
var ErrTooMany = errors.New("too many earlier states are in use")

// Generation is a snapshot that the kernel may know entries of.
type Generation struct {
	Number int     `json:"number"`
	Root   cid.Cid `json:"root"`
}

// generation is one that is served.
type generation struct {
	Generation
	view  *View         // once somebody asked for it
	using atomic.Int64  // requests that are being answered
	told  *atomic.Int64 // see View
	mu    sync.Mutex    // of who opens it
}

// follower answers what the kernel asks about a mount that shows one snapshot after another. The root is that of the
// current one; every other entry, and who lists the root, stays with the snapshot it is of.
type follower struct {
	fuse.RawFileSystem // answers what a read-only file system has no answer to

	ctx    context.Context // of who opens generations
	end    context.CancelFunc
	o      Options
	from   *tree.Snapshot // one of them, whose blocks are those of all
	ledger *ledger
	counts []byte // mapped from the table
	fresh  bool   // the kernel lets go of all names at once
	work   sync.WaitGroup

	turn sync.Mutex // of who makes or ends generations

	mu      sync.RWMutex
	all     map[int]*generation
	current *generation
	ended   bool
	left    bool // to the next server, which ends generations from then on
}

// newFollower goes on with what a table says of generations, the current one of which is the first.
func newFollower(ctx context.Context, s *tree.Snapshot, c Connection, o Options) (*follower, error) {
	if o.Path != "" {
		return nil, errors.New("a part of a snapshot cannot be followed")
	}
	st, err := c.Table.Stat()
	if err == nil && st.Size() < countsLen {
		err = c.Table.Truncate(countsLen)
	}
	if err != nil {
		return nil, fmt.Errorf("the table of generations: %w", err)
	}
	l, found, err := openLedger(c.Table, countsLen)
	if err != nil {
		return nil, err
	}
	if o.Memory == nil {
		o.Memory = NewMemory()
	}
	f := &follower{RawFileSystem: fuse.NewDefaultRawFileSystem(), o: o, from: s, ledger: l, all: map[int]*generation{}}
	f.ctx, f.end = context.WithCancel(context.WithoutCancel(ctx))
	if f.counts, err = mapCounts(c.Table); err != nil {
		return nil, err
	}
	f.fresh = notify(c.Device, notifyEpoch, nil) == nil
	for _, g := range c.Generations {
		f.all[g.Number] = f.generation(g)
	}
	f.current = f.all[c.Generations[0].Number]
	for tag := range l.at {
		if f.all[int(tag)-1] == nil {
			err = errors.Join(err, l.release(tag))
		}
	}
	if err == nil && f.current.Root == s.CID {
		f.current.view, err = f.open(ctx, f.current, s, found)
	}
	if err != nil {
		unix.Munmap(f.counts)
		return nil, err
	}
	return f, nil
}

func mapCounts(table *os.File) ([]byte, error) {
	b, err := unix.Mmap(int(table.Fd()), 0, countsLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("the table of generations: %w", err)
	}
	return b, nil
}

func (f *follower) generation(g Generation) *generation {
	return &generation{Generation: g, told: (*atomic.Int64)(unsafe.Pointer(&f.counts[8*g.Number]))}
}

// open returns the view of a generation.
func (f *follower) open(ctx context.Context, g *generation, s *tree.Snapshot, found []slotRecord) (*View, error) {
	tag := uint64(g.Number) + 1
	sl := f.ledger.slots(tag, followSlotLen)
	for _, r := range found {
		if r.tag == tag {
			sl.dir[r.slot] = r.dir
		}
	}
	v, err := newView(ctx, s, f.o, sl)
	if err != nil {
		return nil, err
	}
	v.high, v.told, v.fleeting = uint64(g.Number)<<generationBit, g.told, !f.fresh
	return v, nil
}

// find returns the view that an entry is in, its number there, and how to tell that the request is answered.
func (f *follower) find(id uint64) (v *View, local uint64, done func(), err error) {
	f.mu.RLock()
	g := f.current
	if local = id; id != fuse.FUSE_ROOT_ID {
		g, local = nil, id&(1<<generationBit-1)
		if n := id >> generationBit; n < maxGenerations {
			g = f.all[int(n)]
		}
	}
	return f.use(g, local)
}

// use lets go of the lock.
func (f *follower) use(g *generation, local uint64) (*View, uint64, func(), error) {
	if g == nil || f.ended {
		f.mu.RUnlock()
		return nil, 0, nil, errNoSlot
	}
	g.using.Add(1)
	f.mu.RUnlock()
	v, err := f.viewOf(g)
	if err != nil {
		g.using.Add(-1)
		return nil, 0, nil, err
	}
	return v, local, func() { g.using.Add(-1) }, nil
}

// viewOf opens a generation of an earlier server when it is asked for.
func (f *follower) viewOf(g *generation) (*View, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.view != nil {
		return g.view, nil
	}
	timeout := f.o.IOTimeout
	if timeout <= 0 {
		timeout = DefaultIOTimeout
	}
	ctx, cancel := context.WithTimeout(f.ctx, timeout)
	defer cancel()
	s, err := tree.Open(ctx, f.from.Blocks(), g.Root)
	if err != nil {
		return nil, err
	}
	found, err := f.ledger.of(uint64(g.Number) + 1)
	if err == nil {
		g.view, err = f.open(f.ctx, g, s, found)
	}
	return g.view, err
}

// generations are those that the kernel may know of, the current one first.
func (f *follower) generations() []Generation {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := []Generation{f.current.Generation}
	for _, g := range f.all {
		if g != f.current {
			all = append(all, g.Generation)
		}
	}
	slices.SortFunc(all[1:], func(a, b Generation) int { return a.Number - b.Number })
	return all
}

// shows reports whether a snapshot is the current one, and whether nobody asks any more.
func (f *follower) shows(c cid.Cid) (over, is bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.ended, f.current.Root == c
}

// next makes a generation that nobody sees yet, and returns it with its root read.
func (f *follower) next(ctx context.Context, s *tree.Snapshot) (*generation, error) {
	f.mu.RLock()
	n := 0
	for n < maxGenerations && f.all[n] != nil {
		n++
	}
	f.mu.RUnlock()
	if n == maxGenerations {
		return nil, fmt.Errorf("%d: %w", n, ErrTooMany)
	}
	g := f.generation(Generation{n, s.CID})
	g.told.Store(0)
	if err := f.ledger.release(uint64(n) + 1); err != nil {
		return nil, err
	}
	v, err := f.open(ctx, g, s, nil)
	if err != nil {
		return nil, err
	}
	if _, err := v.dir(ctx, fuse.FUSE_ROOT_ID); err != nil {
		v.stop()
		return nil, err
	}
	g.view = v
	return g, nil
}

// tidy ends the generations that nobody can ask of any more.
func (f *follower) tidy() {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	if f.ended || f.left {
		f.mu.Unlock()
		return
	}
	var over []*generation
	for n, g := range f.all {
		if g != f.current && g.told.Load() <= 0 && g.using.Load() == 0 {
			over = append(over, g)
			delete(f.all, n)
		}
	}
	f.mu.Unlock()
	for _, g := range over {
		g.end()
		f.ledger.release(uint64(g.Number) + 1) // what is left is released with the next one of that number
	}
}

func (f *follower) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = true
}

func (g *generation) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.view != nil {
		g.view.stop()
		g.view.finish()
	}
}

// stop has requests end that wait for blocks.
func (f *follower) stop() {
	f.end()
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, g := range f.all {
		g.mu.Lock()
		if g.view != nil {
			g.view.stop()
		}
		g.mu.Unlock()
	}
}

// finish is called when nobody asks any more.
func (f *follower) finish() {
	f.work.Wait()
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.all {
		g.end()
	}
	if f.ended = true; f.counts != nil {
		unix.Munmap(f.counts)
		f.counts = nil
	}
}
