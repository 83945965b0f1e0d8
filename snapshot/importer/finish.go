package importer

import (
	"fmt"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// importRoot imports a directory and returns its tree and the root of its sidecar.
func (r *run) importRoot(path string, rules rules) (tree, root cid.Cid, err error) {
	fd, err := openRoot(path)
	if err != nil {
		return cid.Undef, cid.Undef, err
	}
	r.fds.add(fd)
	d := &dir{run: r, rules: rules, fd: fd}
	r.root = d
	top := entry{}
	r.push(first(func(w *worker) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return d.fault("stat", "", err)
		}
		d.ino = st.Ino
		var err error
		if d.dev, err = r.devices.of(fd, &st); err != nil {
			return d.fault("statfs", "", err)
		}
		return w.opened(d, &top)
	}))
	if err := r.work(); err != nil {
		return cid.Undef, cid.Undef, err
	}
	links, bytes := r.links.hardlinks()
	r.stats.Bytes += bytes
	done := d.made
	r.xattrsSeen = r.xattrsSeen || top.extra != nil && len(top.extra.xattrs) > 0
	top.more().below, top.more().entries = done.below, done.rows
	attr := top.attr()
	if err := meta.SpillXattrs(r.ctx, r.put, &attr); err != nil {
		return cid.Undef, cid.Undef, err
	}
	if root, err = meta.WriteRoot(r.ctx, r.put, attr, links); err != nil {
		return cid.Undef, cid.Undef, err
	}
	return done.tree.CID, root, r.put.flush(r.ctx)
}

// openRoot follows symlinks, as the path is the user's own.
func openRoot(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

type first func(*worker) error

func (f first) take() (func(*worker) error, bool) { return f, false }

// made is what a directory became.
type made struct {
	tree  unixfs.Child
	rows  cid.Cid
	below uint64
}

// finished says that one thing a directory waited for is done; after the last the directory is written, which
// is one thing less for its parent to wait for.
func (w *worker) finished(d *dir) error {
	for d.pending.Add(-1) == 0 {
		m, err := w.finish(d)
		if err != nil {
			return d.fault("write", "", err)
		}
		if d.parent == nil {
			d.made = m
			return nil
		}
		e := &d.parent.entries[d.index]
		e.cid, e.tsize = m.tree.CID, m.tree.Tsize
		if m.rows.Defined() {
			e.more().below, e.more().entries = m.below, m.rows
		}
		d.entries = nil
		d = d.parent
	}
	return nil
}

// finish writes a directory all of whose entries are settled, or finds that it is as the cache has it.
func (w *worker) finish(d *dir) (made, error) {
	w.count(d)
	rec := d.newRecord()
	if m, ok := d.record.same(rec); ok {
		return m, nil
	}
	m, err := w.write(d)
	if err != nil || rec == nil {
		return m, err
	}
	rec.made = m
	return m, w.put.save(w.ctx, StatRecord{
		Key: d.key(), Value: rec.encode(), Roots: rec.roots(),
	})
}

// write stores a directory's tree node and rows. It takes the entries apart as it goes: of a directory of a
// million there is no room for both them and what is made of them.
func (w *worker) write(d *dir) (made, error) {
	children := make([]unixfs.Child, 0, len(d.entries))
	for i := range d.entries {
		if e := &d.entries[i]; e.flags&gone == 0 && e.cid.Defined() {
			children = append(children, e.child())
			e.cid = cid.Undef
		}
	}
	var m made
	var err error
	if m.tree, err = unixfs.WriteDir(w.ctx, w.put, children); err != nil {
		return m, err
	}
	m.rows, m.below, err = meta.WriteRows(w.ctx, w.put, len(d.entries), func(yield func(meta.Row, error) bool) {
		for i := range d.entries {
			e := &d.entries[i]
			if e.flags&gone != 0 {
				continue
			}
			row := meta.Row{Name: e.name, Attr: e.attr()}
			if err := meta.SpillXattrs(w.ctx, w.put, &row.Attr); err != nil {
				yield(row, fmt.Errorf("%q: %w", e.name, err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
	})
	return m, err
}

// count adds a directory and what is in it to the statistics. The bytes of hardlinked files are not here.
func (w *worker) count(d *dir) {
	s := snapshot.Stats{Dirs: 1}
	xattrs := false
	for i := range d.entries {
		e := &d.entries[i]
		xattrs = xattrs || e.flags&gone == 0 && e.extra != nil && len(e.extra.xattrs) > 0
		switch {
		case e.flags&gone != 0 || e.typ == meta.Dir:
		case e.typ == meta.File:
			s.Files++
			if e.flags&linked == 0 {
				s.Bytes += e.size
			}
		case e.typ == meta.Symlink:
			s.Symlinks++
		default:
			s.Others++
		}
	}
	w.statsMu.Lock()
	defer w.statsMu.Unlock()
	w.stats.Dirs += s.Dirs
	w.stats.Files += s.Files
	w.stats.Symlinks += s.Symlinks
	w.stats.Others += s.Others
	w.stats.Bytes += s.Bytes
	w.xattrsSeen = w.xattrsSeen || xattrs
}
