package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
)

const (
	packsDir = "packs"
	packExt  = ".pack"
)

// A pack is one open pack file. What changes is guarded by Store.mu.
type pack struct {
	id   uint32
	file *os.File

	tail     int64 // where the next reservation begins
	good     int64 // all bytes below are written
	started  int64 // all bytes below are on their way to the disk
	inflight int
	last     *reservation
	broken   error // why writing at good failed; nothing above it counts

	ahead atomic.Int64 // where the bytes asked to be read ahead end
}

// A reservation is a range of a pack that one goroutine writes. Reservations of a pack succeed in the order
// of their ranges: what is acknowledged is a prefix of the file, so that after a kill the sound frames can be
// told from the torn ones without a list of them.
type reservation struct {
	pack  *pack
	start int64
	end   int64
	prev  *reservation // the one before it in the pack, nil once it is done
	pends []*pend
	done  chan struct{}
	err   error // valid once done is closed
}

// A pend is a block that is written, or being written, and not in the index yet.
type pend struct {
	hash    string
	entry   entry
	visible bool
	indexed bool // a flush has taken it
	res     *reservation
}

func packName(id uint32) string { return fmt.Sprintf("%08d%s", id, packExt) }

func (s *Store) packPath(id uint32) string { return filepath.Join(s.dir, packsDir, packName(id)) }

// readAhead is how far, in bytes, the disk is asked to read ahead of a reader that goes through a pack in its
// order, as a restore does. The kernel sees no order when several goroutines read by turns.
const readAhead = 8 << 20

// advise asks for what follows the bytes about to be read if they are where the last such request leads.
func (p *pack) advise(from, to int64) {
	ahead := p.ahead.Load()
	if from > ahead+readAhead || from < ahead-2*readAhead {
		p.ahead.CompareAndSwap(ahead, to)
		return
	}
	if ahead-to > readAhead/2 || !p.ahead.CompareAndSwap(ahead, ahead+readAhead) {
		return
	}
	withFd(p.file, func(fd int) error { return unix.Fadvise(fd, ahead, readAhead, unix.FADV_WILLNEED) })
}

// openPack returns a pack, its file opened at the first use and kept open.
func (s *Store) openPack(id uint32) (*pack, error) {
	s.mu.RLock()
	p, closed := s.packs[id], s.closed
	s.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if p != nil {
		return p, nil
	}
	f, err := os.Open(s.packPath(id))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A sweep deletes a pack before it forgets it. What it has forgotten nobody would close again.
	if fi, err := f.Stat(); err != nil || fi.Sys().(*syscall.Stat_t).Nlink == 0 {
		f.Close()
		return nil, cmp.Or(err, fs.ErrNotExist)
	}
	if p := s.packs[id]; p != nil || s.closed {
		f.Close()
		if s.closed {
			return nil, ErrClosed
		}
		return p, nil
	}
	p = &pack{id: id, file: f}
	s.packs[id] = p
	return p, nil
}

// read returns the bytes of a block, unverified. A sweep may move them meanwhile: then the look-up is
// repeated.
func (s *Store) read(hash string, buf []byte, find finder) ([]byte, error) {
	var gone entry
	for first := true; ; first = false {
		e, ok, err := find(hash)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, snapshot.ErrNotFound
		}
		if !first && e.pack == gone.pack && e.off == gone.off {
			return nil, fmt.Errorf("%s is missing: %w", s.packPath(e.pack), snapshot.ErrDamaged)
		}
		data, err := s.readAt(e, buf)
		if !errors.Is(err, os.ErrClosed) && !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
		gone = e
	}
}

func (s *Store) readAt(e entry, buf []byte) ([]byte, error) {
	p, err := s.openPack(e.pack)
	if err != nil {
		return nil, err
	}
	if e.size > snapshot.MaxBlockSize {
		return nil, fmt.Errorf("index entry of %d bytes: %w", e.size, snapshot.ErrDamaged)
	}
	if cap(buf) < int(e.size) {
		buf = make([]byte, e.size)
	}
	buf = buf[:e.size]
	p.advise(e.off, e.off+int64(e.size))
	switch _, err := p.file.ReadAt(buf, e.off); {
	case err == nil || errors.Is(err, io.EOF) && e.size == 0:
		return buf, nil
	case errors.Is(err, os.ErrClosed):
		return nil, err
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s ends early: %w", s.packPath(e.pack), snapshot.ErrDamaged)
	default:
		return nil, err
	}
}

// reserve takes the next n bytes of the active pack. The caller holds mu.
func (s *Store) reserve(n int64) (*reservation, error) {
	if p := s.active; p != nil && p.broken != nil {
		return nil, p.broken
	}
	if s.active == nil || s.active.tail >= s.packSize {
		p, err := s.createPack()
		if err != nil {
			return nil, err
		}
		s.active = p
	}
	p := s.active
	r := &reservation{pack: p, start: p.tail, end: p.tail + n, prev: p.last, done: make(chan struct{})}
	p.tail, p.last = r.end, r
	p.inflight++
	return r, nil
}

// createPack begins the next pack. The caller holds mu.
func (s *Store) createPack() (*pack, error) {
	id := s.nextPack
	f, err := os.OpenFile(s.packPath(id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create pack: %w", err)
	}
	s.nextPack++
	p := &pack{id: id, file: f}
	s.packs[id] = p
	s.batch.created = true
	s.step(StepPackCreated)
	return p, nil
}

// finish ends a reservation once those before it have ended: its blocks become visible in order, or, if this
// or an earlier write failed, they are forgotten and the pack is cut back to its sound part.
func (s *Store) finish(r *reservation, err error) error {
	if r.prev != nil {
		<-r.prev.done
		if err == nil {
			err = r.prev.err
		}
		r.prev = nil
	}
	s.mu.Lock()
	p := r.pack
	p.inflight--
	if err != nil {
		r.err, p.broken = err, err
		for _, b := range r.pends {
			delete(s.pending, b.hash)
		}
	} else {
		p.good = r.end
		for _, b := range r.pends {
			b.visible, b.res = true, nil
		}
		s.batch.add(r)
	}
	if p.broken != nil && p.inflight == 0 {
		s.heal(p)
	}
	kick := s.batch.due()
	s.mu.Unlock()
	close(r.done)
	if kick {
		s.flusher.kick()
	}
	return err
}

// heal cuts a pack back to what was written soundly. If that fails too the pack is left as it is: its bad
// tail is above what the index covers, and goes when the store is opened the next time. The caller holds mu.
func (s *Store) heal(p *pack) {
	p.tail, p.last = p.good, nil
	if err := p.file.Truncate(p.good); err != nil && s.active == p {
		s.active = nil
	}
	p.broken = nil
}

// writeVec writes all of the buffers at off.
func writeVec(f *os.File, vec [][]byte, off int64) error {
	if len(vec) == 1 {
		_, err := f.WriteAt(vec[0], off)
		return err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	for len(vec) > 0 {
		if cerr := conn.Write(func(fd uintptr) bool {
			n, err = unix.Pwritev(int(fd), vec, off)
			return true
		}); cerr != nil {
			return cerr
		}
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		if n == 0 {
			return &fs.PathError{Op: "write", Path: f.Name(), Err: io.ErrShortWrite}
		}
		off += int64(n)
		for len(vec) > 0 && n >= len(vec[0]) {
			n -= len(vec[0])
			vec = vec[1:]
		}
		if n > 0 {
			vec[0] = vec[0][n:]
		}
	}
	return nil
}
