package importer

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

// readNames sets the entries of a directory, sorted, without what the rules exclude.
func (w *worker) readNames(d *dir) error {
	d.entries, d.subdirs = d.entries[:0], d.subdirs[:0]
	names := make([]byte, 0, 256) // backs the names: one allocation for many
	var ends []int
	for {
		n, err := unix.Getdents(d.fd, w.scratch)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return d.fault("list", "", err)
		}
		if n == 0 {
			break
		}
		names, ends = parseNames(w.scratch[:n], names, ends)
	}
	if w.hooks.listed != nil {
		w.hooks.listed(d)
	}
	all, from := string(names), 0
	d.entries = slices.Grow(d.entries, len(ends))
	for _, end := range ends {
		typ := meta.Type(all[from])
		d.entries = append(d.entries, entry{name: all[from+1 : end], typ: typ})
		from = end
	}
	slices.SortFunc(d.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	d.entries = slices.CompactFunc(d.entries, func(a, b entry) bool { return a.name == b.name })
	if err := w.settleTypes(d); err != nil {
		return err
	}
	if err := w.exclude(d); err != nil {
		return err
	}
	for i := range d.entries {
		if d.entries[i].typ == meta.Dir {
			d.subdirs = append(d.subdirs, i)
		} else {
			w.o.Progress.FoundFiles.Add(1)
		}
	}
	return nil
}

const unknownType = meta.Type(255)

// parseNames reads struct linux_dirent64 (getdents64(2)). Each name goes to names behind a byte of its type,
// its end to ends.
func parseNames(b, names []byte, ends []int) ([]byte, []int) {
	const nameAt = 19
	for len(b) > nameAt {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		typ, name := b[18], b[nameAt:size]
		b = b[size:]
		name = name[:bytes.IndexByte(name, 0)]
		if string(name) == "." || string(name) == ".." {
			continue
		}
		kind := meta.File // anything but a directory will do: the type is known for good after stat
		switch typ {
		case unix.DT_DIR:
			kind = meta.Dir
		case unix.DT_UNKNOWN:
			kind = unknownType
		}
		names = append(append(names, byte(kind)), name...)
		ends = append(ends, len(names))
	}
	return names, ends
}

// settleTypes asks for the types that the file system did not list.
func (w *worker) settleTypes(d *dir) error {
	for i := range d.entries {
		e := &d.entries[i]
		if e.typ != unknownType {
			continue
		}
		var st unix.Stat_t
		err := unix.Fstatat(d.fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch err {
		case nil:
			e.typ = fileType(st.Mode)
		case unix.ENOENT:
			e.typ = meta.File
		default:
			return d.fault("stat", e.name, err)
		}
	}
	return nil
}

// exclude drops the entries that the rules leave out, those of the directory's own ignore file included.
func (w *worker) exclude(d *dir) error {
	if !w.o.NoIgnoreFile {
		_, ok := slices.BinarySearchFunc(d.entries, DefaultIgnoreFile,
			func(e entry, name string) int { return strings.Compare(e.name, name) })
		if ok {
			if err := w.readIgnoreFile(d); err != nil {
				return err
			}
		}
	}
	if d.rules.empty() {
		return nil
	}
	path := d.path()
	kept := d.entries[:0]
	for _, e := range d.entries {
		if d.rules.excludes(path, e.name, e.typ == meta.Dir) {
			w.excluded.Add(1)
			continue
		}
		kept = append(kept, e)
	}
	clear(d.entries[len(kept):])
	d.entries = kept
	return nil
}
