package importer

import (
	"bytes"

	blocks "github.com/ipfs/go-block-format"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/holes"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// noatime leaves the files' access times alone where the caller may: root, for all files.
func (w *worker) noatime() int {
	if w.owner == 0 {
		return unix.O_NOATIME
	}
	return 0
}

// open opens a regular file, or what has taken its place: without following symlinks or waiting for a fifo.
func (w *worker) open(at int, e *entry) (int, error) {
	if w.hooks.opening != nil {
		w.hooks.opening(e.name)
	}
	const mode = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	extra := w.noatime()
	if uint32(w.owner) == e.uid {
		extra = unix.O_NOATIME
	}
	for {
		fd, err := unix.Openat(at, e.name, mode|extra, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && extra != 0:
			extra = 0
		default:
			return fd, err
		}
	}
}

// readFile reads an entry that was a regular file, and settles it; or leaves a large one to a task of its own.
func (w *worker) readFile(x ref) error {
	d, e := x.seg.dir, x.entry()
	at, err := d.acquire()
	if err != nil {
		return err
	}
	defer d.release()
	if err := w.beforeContent(d.dev, at); err != nil {
		return d.fault("sync the file system of", e.name, err)
	}
	fd, err := w.open(at, e)
	switch err {
	case nil:
	case unix.ENOENT:
		e.flags |= gone
		return w.settled(x)
	case unix.ELOOP, unix.ENXIO, unix.ENODEV:
		return w.lookAgain(x)
	default:
		return d.fault("open", e.name, err)
	}
	w.fds.add(fd)
	f := &file{ref: x, fd: fd}
	if err := unix.Fstat(fd, &f.before); err != nil {
		return d.fault("stat", e.name, err)
	}
	if fileType(f.before.Mode) != meta.File {
		w.fds.close(fd)
		return w.lookAgain(x)
	}
	if e.flags&linked != 0 && f.before.Ino != e.ino {
		if err := w.unlink(x); err != nil {
			return err
		}
	}
	return w.readTry(f)
}

// lookAgain starts over with an entry that is not what it was.
func (w *worker) lookAgain(x ref) error {
	if x.entry().flags&linked != 0 {
		if err := w.unlink(x); err != nil {
			return err
		}
	}
	return w.look(x.seg, x.index)
}

// readTry reads an open file once.
func (w *worker) readTry(f *file) error {
	if w.hooks.reading != nil {
		w.hooks.reading(f.entry().name)
	}
	if f.before.Size > minSpan {
		if w.chunker.size > 0 {
			f.start(w.run)
			return nil
		}
		c, err := w.readStream(f)
		if err != nil {
			return f.fault("read", err)
		}
		return w.readDone(f, c)
	}
	c, err := w.readSmall(f)
	if err != nil {
		return f.fault("read", err)
	}
	return w.readDone(f, c)
}

// content is a file as it was read.
type content struct {
	root unixfs.Child
	size uint64
	holy bool // has holes
	torn bool // not of the size that was expected
}

// readDone settles a file if nothing changed while it was read; else it is read again.
func (w *worker) readDone(f *file, c content) error {
	d, e := f.seg.dir, f.entry()
	xs, uncaptured, err := w.xattrs(fdTarget(f.fd))
	if err != nil {
		return f.fault("read attributes of", err)
	}
	if w.hooks.read != nil {
		w.hooks.read(e.name)
	}
	var after unix.Stat_t
	if err := unix.Fstat(f.fd, &after); err != nil {
		return f.fault("stat", err)
	}
	still := sameFile(&f.before, &after) && !c.torn
	if !still {
		if e.tries++; e.tries < maxTries {
			f.before = after
			return w.readTry(f)
		}
		w.notes.add(unsettled, d.pathOf(e.name))
	}
	w.fds.close(f.fd)
	was := e.extra
	if was != nil {
		e.extra = &extra{inode: was.inode}
	}
	link := e.flags & linked
	e.setStat(&after)
	e.flags = e.flags&^linked | link
	e.setXattrs(xs, uncaptured)
	e.cid, e.tsize, e.size = c.root.CID, c.root.Tsize, c.size
	e.set(sparse, c.holy)
	e.set(fresh, !still || !d.dev.settled(&after))
	return w.settled(f.ref)
}

// readSmall reads a file of at most a span.
func (w *worker) readSmall(f *file) (content, error) {
	c := content{}
	var err error
	if c.holy, err = holes.In(f.fd, &f.before); err != nil {
		return c, err
	}
	buf := w.content(f.before.Size)
	n, err := pread(f.fd, buf, 0)
	if err != nil {
		return c, err
	}
	data := buf[:min(n, int(f.before.Size))]
	c.size, c.torn = uint64(len(data)), int64(n) != f.before.Size
	c.root, err = w.store(data)
	return c, err
}

// store stores content that is in memory, cut to chunks.
func (w *worker) store(data []byte) (unixfs.Child, error) {
	if w.chunker.size > 0 && int64(len(data)) <= w.chunker.size {
		leaf := unixfs.Leaf(data)
		return unixfs.Child{CID: leaf.Cid(), Tsize: uint64(len(data))}, w.put.putCopy(w.ctx, leaf)
	}
	if w.chunker.size == 0 {
		return w.storeStream(bytes.NewReader(data))
	}
	var leaves []blocks.Block
	for len(data) > 0 {
		n := min(int64(len(data)), w.chunker.size)
		leaf := unixfs.Leaf(data[:n])
		data = data[n:]
		leaves = append(leaves, leaf)
		if err := w.builder.Add(w.ctx, leaf.Cid(), uint64(n)); err != nil {
			return unixfs.Child{}, err
		}
	}
	if err := w.put.putCopy(w.ctx, leaves...); err != nil {
		return unixfs.Child{}, err
	}
	return w.builder.Finish(w.ctx)
}

// readOther settles a symlink, device, fifo or socket.
func (w *worker) readOther(x ref, st *unix.Stat_t) error {
	d, e := x.seg.dir, x.entry()
	at, err := d.acquire()
	if err != nil {
		return err
	}
	defer d.release()
	if err := w.beforeContent(d.dev, at); err != nil {
		return d.fault("sync the file system of", e.name, err)
	}
	if e.typ == meta.Symlink {
		target, err := readlink(at, e.name, w.scratch)
		switch err {
		case nil:
		case unix.ENOENT, unix.EINVAL:
			return w.lookAgain(x)
		default:
			return d.fault("readlink", e.name, err)
		}
		c, err := unixfs.WriteSymlink(w.ctx, w.put, target)
		if err != nil {
			return d.fault("readlink", e.name, err)
		}
		e.cid, e.tsize = c.CID, c.Tsize
	}
	xs, uncaptured, err := w.xattrs(entryTarget(at, e.name))
	if err != nil && err != unix.ENOENT {
		return d.fault("read attributes of", e.name, err)
	}
	var after unix.Stat_t
	if err := fstatat(at, e.name, &after); err != nil || !sameFile(st, &after) {
		if e.tries++; e.tries < maxTries {
			return w.lookAgain(x)
		}
		w.notes.add(unsettled, d.pathOf(e.name))
	}
	e.setXattrs(xs, uncaptured)
	e.set(fresh, !d.dev.settled(st))
	return w.settled(x)
}

func readlink(at int, name string, buf []byte) (string, error) {
	for {
		n, err := unix.Readlinkat(at, name, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		return string(buf[:n]), nil
	}
}

// pread fills b, or as much of it as there is.
func pread(fd int, b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Pread(fd, b[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}
