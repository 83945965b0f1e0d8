package importer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

// StatCache remembers what one user's files were when they were last read. What it says is believed without a
// reading, so nobody else may be able to save in it. All methods are safe for concurrent use.
//
// LoadStat returns the value last saved under a key, or nil; it may forget at any time. SaveStat saves records,
// whose roots are stored completely. Adopt reports which of the roots are still stored completely, and keeps
// those as long as the import they are adopted for goes on; only then may the import name them unread.
type StatCache interface {
	LoadStat(ctx context.Context, key []byte) ([]byte, error)
	SaveStat(ctx context.Context, recs []StatRecord) error
	Adopt(ctx context.Context, roots []cid.Cid) ([]bool, error)
}

// Forgetful is a cache that remembers only what is new: every file is read. After a power cut a file can have
// other content than before under the same stamps, for data written in place reaches the disk before the
// journal that has the times.
type Forgetful struct{ StatCache }

// LoadStat implements [StatCache].
func (Forgetful) LoadStat(context.Context, []byte) ([]byte, error) { return nil, nil }

// StatRecord is what the cache remembers of a directory, or of a part of a large one.
type StatRecord struct {
	Key, Value []byte
	Roots      []cid.Cid // of the DAGs that Value names
}

// record is what the cache has of a directory: what it became, and the entries that led to it. Of a large
// directory, the entries that are no directories are in the records of its segments.
type record struct {
	made
	whole   bool     // the entries are all there were
	digests [][]byte // of the segments' records, if there are several
	entries []byte   // encoded, in byte order of the names

	adopted bool   // tree and rows are kept
	kept    []bool // if not adopted: by entry, whether its root is kept; nil if unknown
	subdirs []entry
}

func (d *dir) key() []byte {
	k := []byte{recordVersion}
	k = binary.BigEndian.AppendUint64(k, d.dev.dev)
	k = binary.BigEndian.AppendUint64(k, d.ino)
	return append(k, d.chunker.name...)
}

func (s *segment) key() []byte {
	return binary.BigEndian.AppendUint32(append(s.dir.key(), 0), uint32(s.number))
}

// loadDir looks a directory up in the cache.
func (w *worker) loadDir(d *dir) error {
	if !d.dev.caches {
		return nil
	}
	value, err := w.o.Cache.LoadStat(w.ctx, d.key())
	if err != nil || value == nil {
		return err
	}
	rec := decodeRecord(value)
	if rec == nil {
		return nil
	}
	if d.parent != nil && d.parent.record.names(d.name, rec.made) {
		rec.adopted = true
	} else if rec.adopted, err = w.adopt(rec.roots()); err != nil {
		return err
	}
	if !rec.adopted && len(rec.digests) == 0 {
		if rec.kept, err = w.adoptEntries(rec.entries); err != nil {
			return err
		}
	}
	d.record = rec
	return nil
}

func (w *worker) adopt(roots []cid.Cid) (bool, error) {
	kept, err := w.o.Cache.Adopt(w.ctx, roots)
	return err == nil && !slices.Contains(kept, false), err
}

// adoptEntries asks for each of the encoded entries.
func (w *worker) adoptEntries(b []byte) ([]bool, error) {
	var roots []cid.Cid
	var at []int
	n := 0
	for c := (cursor{rest: b}); c.next(); n++ {
		if c.entry.cid.Defined() && c.entry.typ != meta.Dir {
			roots, at = append(roots, c.entry.cid), append(at, n)
		}
	}
	kept := make([]bool, n)
	if len(roots) == 0 {
		return kept, nil
	}
	answers, err := w.o.Cache.Adopt(w.ctx, roots)
	for i := range answers {
		kept[at[i]] = answers[i]
	}
	return kept, err
}

// loadSegment returns what the cache has of a segment's entries.
func (w *worker) loadSegment(s *segment) (*cursor, error) {
	d := s.dir
	if !d.dev.caches {
		return nil, nil
	}
	if len(d.segments) == 1 {
		if d.record == nil || len(d.record.digests) > 0 {
			return nil, nil
		}
		return &cursor{rest: d.record.entries, kept: d.record.kept, all: d.record.adopted}, nil
	}
	value, err := w.o.Cache.LoadStat(w.ctx, s.key())
	if err != nil || value == nil {
		return nil, err
	}
	c := &cursor{rest: value}
	if d.record != nil && d.record.adopted && s.number < len(d.record.digests) {
		c.all = bytes.Equal(d.record.digests[s.number], digest(value))
	}
	if !c.all {
		c.kept, err = w.adoptEntries(value)
	}
	s.value = value
	return c, err
}

// saveSegment saves the entries of one of several segments, if they are not as the cache has them. It is the
// directory's record that names their roots, all in one.
func (w *worker) saveSegment(s *segment) error {
	d := s.dir
	if !d.dev.caches || len(d.segments) == 1 {
		return nil
	}
	var value []byte
	for _, i := range s.entries {
		if i == becameDir || !d.entries[i].caches() {
			s.partial = true
			continue
		}
		value = d.entries[i].append(value)
	}
	s.digest = digest(value)
	if bytes.Equal(value, s.value) {
		s.value = nil
		return nil
	}
	s.value = nil
	return w.put.save(w.ctx, StatRecord{Key: s.key(), Value: value})
}

// newRecord is what the cache should have of a directory; nil if it must not.
func (d *dir) newRecord() *record {
	if !d.dev.caches {
		return nil
	}
	rec := &record{whole: true}
	single := len(d.segments) <= 1
	if !single {
		for _, s := range d.segments {
			rec.digests = append(rec.digests, s.digest)
			rec.whole = rec.whole && !s.partial
		}
	}
	for i := range d.entries {
		e := &d.entries[i]
		switch {
		case e.flags&gone != 0 || e.typ != meta.Dir && !single:
		case !e.caches():
			rec.whole = false
		default:
			rec.entries = e.append(rec.entries)
		}
	}
	return rec
}

// caches reports whether what is known of an entry will be true as long as its stamps are the same.
func (e *entry) caches() bool { return e.flags&(gone|fresh) == 0 }

// same returns what a directory became when it had the same entries, if that is still kept.
func (r *record) same(now *record) (made, bool) {
	if r == nil || now == nil || !r.adopted || !r.whole || !now.whole || !bytes.Equal(r.entries, now.entries) ||
		!slices.EqualFunc(r.digests, now.digests, bytes.Equal) {
		return made{}, false
	}
	return r.made, true
}

func (r *record) roots() []cid.Cid {
	if !r.rows.Defined() {
		return []cid.Cid{r.tree.CID}
	}
	return []cid.Cid{r.tree.CID, r.rows}
}

// names reports whether the record is adopted and has a subdirectory that became what m is, which is then
// adopted with it.
func (r *record) names(subdir string, m made) bool {
	if r == nil || !r.adopted {
		return false
	}
	i, ok := slices.BinarySearchFunc(r.subdirs, subdir, func(e entry, name string) int { return strings.Compare(e.name, name) })
	if !ok || r.subdirs[i].cid != m.tree.CID {
		return false
	}
	if x := r.subdirs[i].extra; x != nil {
		return x.entries == m.rows
	}
	return !m.rows.Defined()
}

func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:8]
}

// matches reports whether st is of the file that the entry was made from, unchanged since.
func (e *entry) matches(st *unix.Stat_t) bool {
	return e.ino == st.Ino && e.ctime == st.Ctim.Nano() && e.sec == st.Mtim.Sec && e.nsec == uint32(st.Mtim.Nsec) &&
		e.typ == fileType(st.Mode) && e.mode == uint16(st.Mode&meta.ModeMask) && e.uid == st.Uid && e.gid == st.Gid &&
		(e.typ != meta.File || e.size == uint64(st.Size))
}

// segmentOf is the segment a name belongs to, of a power of two.
func segmentOf(name string, parts int) int {
	if parts == 1 {
		return 0
	}
	h := uint32(2166136261) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h^h>>16) & (parts - 1)
}
