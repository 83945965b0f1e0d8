package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/durable"
)

const (
	// writebackEvery is the bytes put after which the disk is told to begin writing, so that little is left
	// for Sync.
	writebackEvery = 16 << 20
	// flushBytes and flushBlocks bound what a kill leaves to be found again by reading pack tails.
	flushBytes  = 256 << 20
	flushBlocks = 1 << 16
)

// A flushBatch is what has changed since the last flush. It is guarded by Store.mu.
type flushBatch struct {
	ready    []*pend
	dirty    map[*pack]struct{}
	stats    map[string]savedStat
	bytes    int64
	started  int64 // of bytes, those whose writing has been started
	created  bool  // a pack file has been created
	unsynced bool  // the index holds a batch that was committed without sync
}

func (b *flushBatch) add(r *reservation) {
	b.ready = append(b.ready, r.pends...)
	b.bytes += r.end - r.start
	if b.dirty == nil {
		b.dirty = make(map[*pack]struct{})
	}
	b.dirty[r.pack] = struct{}{}
}

func (b *flushBatch) due() bool { return b.full() || b.bytes-b.started >= writebackEvery }

func (b *flushBatch) full() bool { return b.bytes >= flushBytes || len(b.ready) >= flushBlocks }

// A flusher runs the flushes of a store one after the other. Whoever asks while one runs shares the next.
type flusher struct {
	s      *Store
	kicked chan struct{}
	wanted chan struct{}
	stop   chan struct{}
	done   chan struct{}

	mu   sync.Mutex
	next *round
	over bool
}

type round struct {
	done chan struct{}
	err  error
}

func newFlusher(s *Store) *flusher {
	f := &flusher{
		s:      s,
		kicked: make(chan struct{}, 1),
		wanted: make(chan struct{}, 1),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	go f.run()
	return f
}

func (f *flusher) run() {
	defer close(f.done)
	for {
		select {
		case <-f.wanted:
			f.mu.Lock()
			r := f.next
			f.next = nil
			f.mu.Unlock()
			r.err = f.s.flush(true)
			close(r.done)
		case <-f.kicked:
			f.s.background()
		case <-f.stop:
			return
		}
	}
}

// kick asks for background work without waiting for it.
func (f *flusher) kick() {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}

// sync waits for a flush that begins after the call.
func (f *flusher) sync(ctx context.Context) error {
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return ErrClosed
	}
	if f.next == nil {
		f.next = &round{done: make(chan struct{})}
		f.wanted <- struct{}{}
	}
	r := f.next
	f.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the flusher; a last flush was the caller's to ask for.
func (f *flusher) close() {
	f.mu.Lock()
	f.over = true
	waiting := f.next
	f.mu.Unlock()
	if waiting != nil {
		<-waiting.done
	}
	close(f.stop)
	<-f.done
}

// background starts writeback, or flushes when much has gathered. Its error is kept by the store and comes
// back from the next Sync.
func (s *Store) background() {
	s.mu.Lock()
	full := s.batch.full()
	s.mu.Unlock()
	if full {
		s.flush(false)
		return
	}
	s.startWriteback()
}

func (s *Store) startWriteback() {
	type span struct {
		file     *os.File
		from, to int64
	}
	var spans []span
	s.mu.Lock()
	for p := range s.batch.dirty {
		if p.good > p.started {
			spans = append(spans, span{p.file, p.started, p.good})
			p.started = p.good
		}
	}
	s.batch.started = s.batch.bytes
	s.mu.Unlock()
	for _, w := range spans {
		// An error here shows again in the fdatasync that follows, which is the one that counts.
		withFd(w.file, func(fd int) error {
			return unix.SyncFileRange(fd, w.from, w.to-w.from, unix.SYNC_FILE_RANGE_WRITE)
		})
	}
}

// A cut is the pack whose blocks a flush takes, and where they end.
type cut struct {
	pack *pack
	good int64
}

// flush brings what is pending to the disk and into the index, in this order, so that the index never knows
// of bytes that a power cut can take. Only the flusher calls it.
func (s *Store) flush(durable bool) error {
	b, cuts, err := s.takeBatch(durable)
	if b == nil {
		return err
	}
	if err := s.syncPacks(b, cuts); err != nil {
		return s.fail(err)
	}
	if err := s.indexBatch(b, cuts, durable); err != nil {
		return s.fail(err)
	}
	s.step(StepIndexed)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range b.ready {
		if s.pending[p.hash] == p {
			delete(s.pending, p.hash)
		}
	}
	if len(b.ready) > 0 {
		s.flushes++
	}
	if durable {
		s.batch.unsynced = false
	}
	return nil
}

// takeBatch begins the next batch and returns the one before; nil if that can wait. A batch that waits stays
// what it is: a pack created for blocks that are still being written must not be forgotten.
func (s *Store) takeBatch(durable bool) (*flushBatch, []cut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, nil, s.failed
	}
	b := s.batch
	brings := len(b.ready) > 0 || len(b.stats) > 0
	if !brings && !(durable && b.unsynced) {
		return nil, nil, nil
	}
	s.batch = flushBatch{unsynced: b.unsynced || brings}
	for _, p := range b.ready {
		p.indexed = true
	}
	var cuts []cut
	for p := range b.dirty {
		cuts = append(cuts, cut{p, p.good})
		p.started = p.good
	}
	return &b, cuts, nil
}

func (s *Store) syncPacks(b *flushBatch, cuts []cut) error {
	for _, c := range cuts {
		if err := withFd(c.pack.file, unix.Fdatasync); err != nil {
			return fmt.Errorf("sync %s: %w", c.pack.file.Name(), err)
		}
		s.step(StepPackSynced)
	}
	if !b.created {
		return nil
	}
	if err := durable.SyncDir(filepath.Join(s.dir, packsDir)); err != nil {
		return err
	}
	s.step(StepPackDirSynced)
	return nil
}

func (s *Store) indexBatch(b *flushBatch, cuts []cut, durable bool) error {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	w := s.index.db.NewBatch()
	for _, p := range b.ready {
		w.Set(blockKey(p.hash), p.entry.encode(), nil)
	}
	for _, c := range cuts {
		w.Set(packKey(c.pack.id), packState{indexed: c.good}.encode(), nil)
	}
	if err := s.setStats(w, b.stats); err != nil {
		return err
	}
	if w.Empty() {
		w.LogData(nil, nil)
	}
	return s.index.commit(w, durable)
}

// setStats adds stat records and the complete marks that still count to a batch. The caller holds index.mu.
func (s *Store) setStats(w *pebble.Batch, stats map[string]savedStat) error {
	if len(stats) == 0 {
		return nil
	}
	epoch, err := s.index.epoch()
	if err != nil {
		return err
	}
	for key, r := range stats {
		w.Set(statKey(key), encodeStat(today(), r.value), nil)
		for _, v := range r.roots {
			if v.epoch != epoch {
				continue
			}
			n, err := nameOf(v.root)
			if err != nil {
				return err
			}
			e, ok, err := s.indexing(n.hash)
			if err != nil {
				return err
			}
			if ok {
				e.complete, e.epoch = n.codec+1, epoch
				w.Set(blockKey(n.hash), e.encode(), nil)
			}
		}
	}
	return nil
}

// indexing returns the entry of a block that is in the index or in the batch being written to it.
func (s *Store) indexing(hash string) (entry, bool, error) {
	s.mu.RLock()
	p := s.pending[hash]
	s.mu.RUnlock()
	if p != nil && p.indexed {
		return p.entry, true, nil
	}
	return s.index.get(hash)
}

func withFd(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := conn.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
