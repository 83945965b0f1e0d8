package view

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot/meta"
)

// forever is how long the kernel may keep what it was told.
const forever = 365 * 24 * time.Hour

var modes = [...]uint32{
	meta.File: syscall.S_IFREG, meta.Dir: syscall.S_IFDIR, meta.Symlink: syscall.S_IFLNK, meta.FIFO: syscall.S_IFIFO,
	meta.Socket: syscall.S_IFSOCK, meta.CharDevice: syscall.S_IFCHR, meta.BlockDevice: syscall.S_IFBLK,
}

const blockSize = 4096

func (v *View) attributes(n node, nlink uint32, a *fuse.Attr) {
	*a = fuse.Attr{
		Ino: v.outside(n.id), Size: n.size, Mode: modes[n.kind] | uint32(n.mode), Nlink: nlink,
		Owner:   fuse.Owner{Uid: n.uid, Gid: n.gid},
		Mtime:   uint64(n.sec),
		Blksize: blockSize,
	}
	a.Mtimensec = n.nsec
	a.Atime, a.Atimensec, a.Ctime, a.Ctimensec = a.Mtime, n.nsec, a.Mtime, n.nsec
	switch n.kind {
	case meta.Dir:
		a.Size, a.Nlink = blockSize, 2
	case meta.Symlink:
		a.Size = uint64(len(n.target()))
	case meta.CharDevice, meta.BlockDevice:
		if n.more != nil {
			a.Rdev = device(n.more.major, n.more.minor)
		}
	case meta.File:
		a.Blocks = (n.size + blockSize - 1) / blockSize * (blockSize / 512)
		if n.sparse {
			// At least one block is a hole. Zero would say that all are.
			a.Blocks -= blockSize / 512
		}
	}
}

// device is a device number as the kernel's protocol has it (new_encode_dev).
func device(major, minor uint32) uint32 { return minor&0xff | major<<8 | minor&^0xff<<12 }

// tell fills in an entry of a directory, which the kernel knows from then on.
func (v *View) tell(dir uint64, n node, nlink uint32, out *fuse.EntryOut) {
	out.NodeId = v.outside(n.id)
	v.attributes(n, nlink, &out.Attr)
	out.SetEntryTimeout(v.lasts(dir))
	out.SetAttrTimeout(forever)
	if v.told != nil {
		v.told.Add(1)
	}
}

// outside is the number that the kernel knows an entry by.
func (v *View) outside(id uint64) uint64 {
	if id == fuse.FUSE_ROOT_ID {
		return id
	}
	return id | v.high
}

// lasts is how long the kernel may keep that there is a name in a directory, or none.
func (v *View) lasts(dir uint64) time.Duration {
	if v.fleeting && dir == fuse.FUSE_ROOT_ID {
		return 0
	}
	return forever
}

// Lookup implements [fuse.RawFileSystem].
func (v *View) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	ctx, done := v.within()
	defer done()
	l, err := v.dir(ctx, h.NodeId)
	if err != nil {
		return v.failedAt(ctx, h.NodeId, err)
	}
	i := l.find(name)
	if i < 0 {
		out.SetEntryTimeout(v.lasts(l.id)) // in this snapshot there will never be one
		return fuse.OK
	}
	p := place{l, i}
	n, nlink, err := v.shown(ctx, p)
	if err != nil {
		return v.status(p, err)
	}
	v.tell(l.id, n, nlink, out)
	return fuse.OK
}

// failedAt is status for an entry of which only the number is known.
func (v *View) failedAt(ctx context.Context, id uint64, err error) fuse.Status {
	p, _ := v.locate(ctx, id)
	return v.status(p, err)
}

// of returns the entry of a number.
func (v *View) of(ctx context.Context, id uint64) (n node, nlink uint32, p place, err error) {
	if p, err = v.locate(ctx, id); err == nil {
		n, nlink, err = v.shown(ctx, p)
	}
	return n, nlink, p, err
}

// GetAttr implements [fuse.RawFileSystem].
func (v *View) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ctx, done := v.within()
	defer done()
	n, nlink, p, err := v.of(ctx, in.NodeId)
	if err != nil {
		return v.status(p, err)
	}
	v.attributes(n, nlink, &out.Attr)
	out.SetTimeout(forever)
	return fuse.OK
}

// Readlink implements [fuse.RawFileSystem].
func (v *View) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	ctx, done := v.within()
	defer done()
	n, _, p, err := v.of(ctx, h.NodeId)
	if err == nil && n.kind != meta.Symlink {
		return nil, fuse.EINVAL
	}
	return []byte(n.target()), v.status(p, err)
}

// Open implements [fuse.RawFileSystem]: the kernel is to do without, and keeps what it has of the file.
func (v *View) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// OpenDir implements [fuse.RawFileSystem]: as Open.
func (v *View) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// Flush implements [fuse.RawFileSystem]: there is nothing to write, and the kernel need not ask again.
func (v *View) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// ReadDir implements [fuse.RawFileSystem].
func (v *View) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return v.readDir(in, func(_ context.Context, d fuse.DirEntry, _ place) bool { return out.AddDirEntry(d) })
}

// ReadDirPlus implements [fuse.RawFileSystem]. The attributes of an entry are left out if reading them takes a
// block: who only lists names shall not fetch them. So are they in a root that may become another one meanwhile: the
// kernel would take them for that one's.
func (v *View) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return v.readDir(in, func(ctx context.Context, d fuse.DirEntry, p place) bool {
		e := out.AddDirLookupEntry(d)
		if e == nil {
			return false
		}
		if p.l == nil || !p.l.at(p.i).known || v.told != nil && p.l.id == fuse.FUSE_ROOT_ID {
			return true
		}
		if n, nlink, err := v.shown(ctx, p); err == nil {
			v.tell(p.l.id, n, nlink, e)
		}
		return true
	})
}

func (v *View) readDir(in *fuse.ReadIn, add func(context.Context, fuse.DirEntry, place) bool) fuse.Status {
	ctx, done := v.within()
	defer done()
	l, err := v.dir(ctx, in.NodeId)
	if err != nil {
		return v.failedAt(ctx, in.NodeId, err)
	}
	links, err := v.linksIn(ctx, l)
	if err != nil {
		return v.failedAt(ctx, in.NodeId, err)
	}
	off := in.Offset
	if off == 0 {
		v.listAhead(l)
	}
	for ; off < 2; off++ {
		d := fuse.DirEntry{Name: []string{".", ".."}[off], Mode: syscall.S_IFDIR, Ino: v.outside([]uint64{l.id, l.parent}[off]), Off: off + 1}
		if !add(ctx, d, place{}) {
			return fuse.OK
		}
	}
	for i := int(off) - 2; i >= 0 && i < l.len(); i++ {
		if i%kindsAtOnce == 0 || i == int(off)-2 {
			v.kinds(ctx, l, i)
		}
		n := l.at(i)
		// What cannot be read counts as a file: many programs give the directory up if they must ask for a type in vain.
		d := fuse.DirEntry{Name: n.name, Ino: n.id, Off: uint64(i) + 3, Mode: modes[n.kind]}
		if lk, ok := links[i]; ok {
			d.Ino = lk.id
		}
		d.Ino = v.outside(d.Ino)
		if !add(ctx, d, place{l, i}) {
			break
		}
	}
	return fuse.OK
}

const kindsAtOnce = 64

// kinds finds out what the entries from one place to the next multiple of kindsAtOnce are, if the directory does
// not say.
func (v *View) kinds(ctx context.Context, l *listing, from int) {
	var wg sync.WaitGroup
	for i := from; i < min(from/kindsAtOnce*kindsAtOnce+kindsAtOnce, l.len()); i++ {
		if !l.at(i).kindKnown {
			wg.Go(func() { v.resolved(ctx, l, i) })
		}
	}
	wg.Wait()
}

// StatFs implements [fuse.RawFileSystem].
func (v *View) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = blockSize, blockSize, meta.MaxName
	if c := v.snap.Commit; c != nil {
		out.Blocks = (c.Stats.Bytes + blockSize - 1) / blockSize
		out.Files = c.Stats.Files + c.Stats.Dirs + c.Stats.Symlinks + c.Stats.Others
	}
	return fuse.OK
}
