package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/durable"
)

// compactShare is the part of a pack, one in so many bytes, that must be dead for its live rest to be copied.
const compactShare = 5

// Compact gives back the space of packs whose blocks are dead for a good part: it copies what lives into a new
// pack and deletes the old one, and tells how many bytes the filesystem got back. Readers go on meanwhile.
func (sw *Sweep) Compact(ctx context.Context) (freed int64, _ error) {
	s := sw.s
	wanting, err := s.sparse(ctx)
	if err != nil {
		return 0, err
	}
	if id, ok := s.leaveActive(wanting); ok {
		// Blocks may have been put into it since it was looked at.
		if wanting, err = s.sparse(ctx); err != nil {
			return 0, err
		}
		s.log.Debug("left a pack to compact it", logPack, id)
	}
	m := &mover{s: s}
	defer m.close()
	for _, p := range wanting {
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		n, err := m.move(ctx, p)
		if err != nil {
			return freed, fmt.Errorf("compact %s: %w", s.packPath(p.id), err)
		}
		freed += n
	}
	return freed, nil
}

// A packUse is a pack nobody writes to any more, and the bytes in it that live.
type packUse struct {
	id         uint32
	size, live int64
	active     bool // except for this one
	short      bool // it is missing, or not all that was indexed is in it
	lost       bool // and some of what is not in it is named by the index
}

// sparse returns the packs that are worth compacting, the emptiest first: they give most space for the least
// copying, and need the least to begin with. A short pack is one of them as soon as it can be forgotten.
func (s *Store) sparse(ctx context.Context) ([]packUse, error) {
	s.mu.RLock()
	bound, active := s.nextPack, s.active
	busy := make(map[uint32]bool)
	for id, p := range s.packs {
		busy[id] = p.inflight > 0
	}
	s.mu.RUnlock()
	// What is below bound and not busy gets no more blocks, and the flush puts those it has into the index.
	if err := s.Sync(ctx); err != nil {
		return nil, err
	}
	uses, err := s.packUses(ctx)
	if err != nil {
		return nil, err
	}
	var list []packUse
	for id, u := range uses {
		if id >= bound || busy[id] || u.size-u.live <= u.size/compactShare && (!u.short || u.lost) {
			continue
		}
		u.active = active != nil && active.id == id
		list = append(list, *u)
	}
	slices.SortFunc(list, func(a, b packUse) int { return cmp.Compare(a.live, b.live) })
	return list, nil
}

// packUses looks at the packs there are, and at those missing of which there is still a record and nothing else.
func (s *Store) packUses(ctx context.Context) (map[uint32]*packUse, error) {
	files, err := s.listPacks()
	if err != nil {
		return nil, err
	}
	states, err := s.index.packStates()
	if err != nil {
		return nil, err
	}
	uses := make(map[uint32]*packUse)
	for id, size := range files {
		uses[id] = &packUse{id: id, size: size}
	}
	for id := range s.short {
		if _, known := states[id]; uses[id] == nil && known {
			uses[id] = &packUse{id: id}
		}
		if u := uses[id]; u != nil {
			u.short = true
		}
	}
	err = s.entries(ctx, func(hash string, e entry) error {
		u := uses[e.pack]
		switch {
		case u == nil:
		case s.lost(e):
			u.lost = true
		default:
			u.live += liveSize(hash, e)
		}
		return nil
	})
	for id, u := range uses {
		// It had blocks when the store was opened, and no file has them now.
		if _, there := files[id]; !there && u.live > 0 {
			delete(uses, id)
		}
	}
	return uses, err
}

// liveSize is about what a block takes in a pack, in bytes.
func liveSize(hash string, e entry) int64 { return int64(e.size) + int64(len(hash)) + frameHeader }

// leaveActive ends the pack that is written to if it is among those to be compacted and nobody writes at this
// moment. Whether it does or not, none of list is written to after it has returned.
func (s *Store) leaveActive(list []packUse) (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range list {
		if u.active && s.active != nil && s.active.id == u.id && s.active.inflight == 0 {
			s.active = nil
			return u.id, true
		}
	}
	return 0, false
}

// A mover copies the live frames of packs into packs of its own.
type mover struct {
	s    *Store
	to   *os.File
	id   uint32
	tail int64
	buf  []byte // frames to be written at tail-len(buf)
}

// A moved is a block with a copy.
type moved struct {
	hash     string
	from, to int64
}

func (m *mover) close() {
	if m.to != nil {
		m.to.Close()
	}
}

// move brings a pack's live blocks elsewhere and deletes it, or leaves it as it is if that cannot be done.
func (m *mover) move(ctx context.Context, u packUse) (freed int64, err error) {
	if u.active {
		return 0, nil
	}
	s := m.s
	var blocks []moved
	if u.live > 0 {
		from, to := m.tail, m.id
		if blocks, err = m.copy(ctx, u); err != nil {
			if m.id != to {
				from = 0
			}
			err = errors.Join(err, m.undo(from))
			if errors.Is(err, errTorn) {
				s.log.Warn("cannot compact a damaged pack", logPack, u.id, logError, err)
				return 0, nil
			}
			return 0, err
		}
		s.step(StepCompactCopied)
		if m.id != to {
			from = 0
		}
		freed -= m.tail - from
	}
	if err := m.repoint(u, blocks); err != nil {
		return 0, err
	}
	s.step(StepCompactIndexed)
	if err := os.Remove(s.packPath(u.id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	s.forget(u.id)
	// Without its record, a pack that a power cut brings back would be taken for one to be recovered.
	if err := durable.SyncDir(filepath.Join(s.dir, packsDir)); err != nil {
		return 0, err
	}
	s.step(StepCompactRemoved)
	freed += u.size
	if u.lost {
		return freed, nil
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	b := s.index.db.NewBatch()
	b.Delete(packKey(u.id), nil)
	return freed, s.index.commit(b, false)
}

// copy appends the live frames of a pack to the mover's and syncs it.
func (m *mover) copy(ctx context.Context, u packUse) ([]moved, error) {
	s := m.s
	if m.to == nil || m.tail >= s.packSize {
		if err := m.next(); err != nil {
			return nil, err
		}
	}
	p, err := s.openPack(u.id)
	if err != nil {
		return nil, err
	}
	fi, err := p.file.Stat()
	if err != nil {
		return nil, err
	}
	var blocks []moved
	left := u.live // to be found
	r := newFrameReader(p.file, 0, fi.Size())
	for {
		fr, err := r.next()
		if left == 0 && (errors.Is(err, io.EOF) || errors.Is(err, errTorn)) {
			break
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%d bytes of blocks were not found: %w", left, errTorn)
		}
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, ok, err := s.index.get(fr.name.hash)
		if err != nil {
			return nil, err
		}
		if !ok || e.pack != u.id || e.off != fr.off {
			continue
		}
		left -= liveSize(fr.name.hash, e)
		to, err := m.append(fr)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, moved{fr.name.hash, fr.off, to})
	}
	if err := m.flush(); err != nil {
		return nil, err
	}
	if err := withFd(m.to, unix.Fdatasync); err != nil {
		return nil, err
	}
	return blocks, durable.SyncDir(filepath.Join(s.dir, packsDir))
}

// undo cuts what was copied since off.
func (m *mover) undo(off int64) error {
	if m.to == nil {
		return nil
	}
	m.tail, m.buf = off, m.buf[:0]
	if off > 0 {
		return m.to.Truncate(off)
	}
	err := errors.Join(os.Remove(m.to.Name()), m.to.Close())
	m.to = nil
	return err
}

// next begins a new pack of the mover's.
func (m *mover) next() error {
	m.close()
	s := m.s
	s.mu.Lock()
	id := s.nextPack
	s.nextPack++
	s.mu.Unlock()
	f, err := os.OpenFile(s.packPath(id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create pack: %w", err)
	}
	m.to, m.id, m.tail, m.buf = f, id, 0, m.buf[:0]
	return nil
}

func (m *mover) append(fr frame) (off int64, err error) {
	c := fr.name.cid()
	m.buf = append(appendHeader(m.buf, c, len(fr.data)), fr.data...)
	off = m.tail + int64(frameOverhead(c))
	m.tail = off + int64(len(fr.data))
	if len(m.buf) < 4<<20 {
		return off, nil
	}
	return off, m.flush()
}

func (m *mover) flush() error {
	_, err := m.to.WriteAt(m.buf, m.tail-int64(len(m.buf)))
	m.buf = m.buf[:0]
	return err
}

// repoint names the copies in the index, and the old pack as one to be deleted, or, for what is lost with it, as
// missing.
func (m *mover) repoint(u packUse, blocks []moved) error {
	s := m.s
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	b := s.index.db.NewBatch()
	for _, k := range blocks {
		e, ok, err := s.index.get(k.hash)
		if err != nil {
			return err
		}
		if ok && e.pack == u.id && e.off == k.from {
			e.pack, e.off = m.id, k.to
			b.Set(blockKey(k.hash), e.encode(), nil)
		}
	}
	if len(blocks) > 0 {
		b.Set(packKey(m.id), packState{indexed: m.tail}.encode(), nil)
	}
	gone := packState{doomed: true}
	if u.lost {
		gone = packState{indexed: s.short[u.id].indexed, short: true}
	}
	b.Set(packKey(u.id), gone.encode(), nil)
	if err := s.index.commit(b, true); err != nil {
		return s.fail(err)
	}
	return nil
}

// forget closes a deleted pack; readers that still hold it look their block up again.
func (s *Store) forget(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.packs[id]; p != nil {
		p.file.Close()
		delete(s.packs, id)
	}
}
