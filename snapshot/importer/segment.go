package importer

import (
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

const (
	jobFiles = 32       // files that one job reads at most
	jobBytes = 1 << 20  // after which a job takes no further file
	jobEntry = 16 << 10 // what a file costs besides its content, in bytes
)

// segment is a part of a directory's entries. Its jobs are batches of the files that have to be read.
type segment struct {
	dir     *dir
	number  int
	entries []int  // indices, in byte order of the names; nil: all but the subdirectories
	loose   bool   // a single entry on its own, outside of the cache
	value   []byte // what the cache has
	digest  []byte // of what it should have
	partial bool   // some entries are not for the cache

	todo    []int // guarded by run.mu
	next    int   // of todo, guarded by run.mu
	pending atomic.Int64
}

func newSegments(d *dir) []*segment {
	n := len(d.entries) - len(d.subdirs)
	if n == 0 {
		return nil
	}
	parts := segmentCount(n)
	segs := make([]*segment, parts)
	for i := range segs {
		segs[i] = &segment{dir: d, number: i}
	}
	for i := range d.entries {
		if e := &d.entries[i]; e.typ != meta.Dir {
			s := segs[segmentOf(e.name, parts)]
			s.entries = append(s.entries, i)
		}
	}
	return segs
}

// segmentCount is a power of two, so that few entries change their segment when a directory grows.
func segmentCount(entries int) int {
	n := 1
	for entries > n*segmentEntries {
		n *= 2
	}
	return n
}

// take is called with run.mu held.
func (s *segment) take() (func(*worker) error, bool) {
	from, bytes := s.next, uint64(0)
	for s.next < len(s.todo) && s.next-from < jobFiles && (bytes < jobBytes || s.next == from) {
		bytes += s.dir.entries[s.todo[s.next]].size + jobEntry
		s.next++
	}
	batch := s.todo[from:s.next]
	return func(w *worker) error {
		for _, i := range batch {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			if err := w.readFile(ref{s, i}); err != nil {
				return err
			}
		}
		return nil
	}, s.next < len(s.todo)
}

// becameDir stands in segment.entries for what became a directory after it was listed.
const becameDir = -1

// ref is an entry in the work. Whoever settles it calls run.settled.
type ref struct {
	seg   *segment
	index int
}

func (x ref) entry() *entry { return &x.seg.dir.entries[x.index] }

// scan looks at every entry of a segment, and pushes the files that must be read.
func (w *worker) scan(s *segment) error {
	s.pending.Store(int64(len(s.entries)) + 1)
	cached, err := w.loadSegment(s)
	if err != nil {
		return err
	}
	at, err := s.dir.acquire()
	if err != nil {
		return err
	}
	defer s.dir.release()
	for n, i := range s.entries {
		if n%256 == 0 && w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		e := &s.dir.entries[i]
		var st unix.Stat_t
		if err := fstatat(at, e.name, &st); err == unix.ENOENT {
			e.flags |= gone
			if err := w.settled(ref{s, i}); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return s.dir.fault("stat", e.name, err)
		}
		if fileType(st.Mode) == meta.Dir {
			s.entries[n] = becameDir
		}
		if err := w.sort(s, i, &st, cached); err != nil {
			return err
		}
	}
	if len(s.todo) > 0 {
		w.push(s)
	}
	return w.segmentDone(s, 1)
}

// sort settles an entry, or puts it among those to be read.
func (w *worker) sort(s *segment, i int, st *unix.Stat_t, cached *cursor) error {
	x := ref{s, i}
	e := x.entry()
	if hit := cached.find(e.name); hit != nil && st.Dev == s.dir.dev.dev && hit.matches(st) {
		e.become(hit)
		if e.extra != nil {
			w.noteUncaptured(e.extra.uncaptured)
		}
		if e.typ == meta.File {
			w.o.Progress.FoundBytes.Add(e.size)
			w.o.Progress.Cached.Add(1)
		}
		if e.flags&linked != 0 {
			if mine, err := w.claim(x, st); err != nil || !mine {
				return err
			}
		}
		return w.settled(x)
	}
	e.setStat(st)
	if e.typ == meta.File {
		e.size = uint64(max(st.Size, 0))
		w.o.Progress.FoundBytes.Add(e.size)
	}
	return w.sortMiss(x, st, func() error {
		s.todo = append(s.todo, i)
		return nil
	})
}

// sortMiss settles an entry that has to be read unless it is a file, which is left to read.
func (w *worker) sortMiss(x ref, st *unix.Stat_t, read func() error) error {
	e := x.entry()
	if e.flags&linked != 0 {
		if mine, err := w.claim(x, st); err != nil || !mine {
			return err
		}
	}
	switch e.typ {
	case meta.File:
		return read()
	case meta.Dir:
		x.seg.dir.addSubdir(x.index)
		return w.settled(x)
	default:
		return w.readOther(x, st)
	}
}

// look sorts a single entry, and reads it at once if it must be.
func (w *worker) look(s *segment, i int) error {
	x := ref{s, i}
	e := x.entry()
	at, err := s.dir.acquire()
	if err != nil {
		return err
	}
	defer s.dir.release()
	e.extra, e.cid, e.flags = nil, cid.Undef, 0
	var st unix.Stat_t
	if err := fstatat(at, e.name, &st); err == unix.ENOENT {
		e.flags |= gone
		return w.settled(x)
	} else if err != nil {
		return s.dir.fault("stat", e.name, err)
	}
	e.setStat(&st)
	return w.sortMiss(x, &st, func() error { return w.readFile(x) })
}

// settled says that all is known of an entry.
func (w *worker) settled(x ref) error {
	e := x.entry()
	if e.flags&gone == 0 && e.typ != meta.Dir {
		w.o.Progress.Files.Add(1)
		if e.typ == meta.File {
			w.o.Progress.Bytes.Add(e.size)
		}
	}
	if e.flags&linked != 0 {
		if err := w.settleLink(x); err != nil {
			return err
		}
	}
	return w.segmentDone(x.seg, 1)
}

func (w *worker) segmentDone(s *segment, n int64) error {
	if s.pending.Add(-n) > 0 {
		return nil
	}
	if !s.loose {
		if err := w.saveSegment(s); err != nil {
			return err
		}
		s.entries, s.todo = nil, nil
		s.dir.openedOne()
	}
	return w.finished(s.dir)
}

func fstatat(at int, name string, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(at, name, st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			return err
		}
	}
}
