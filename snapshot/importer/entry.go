package importer

import (
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// entry is one name in a directory. There may be millions at a time: what few entries need is in extra.
type entry struct {
	name     string
	cid      cid.Cid // tree node; undefined for what only the sidecar holds
	tsize    uint64
	size     uint64 // bytes of content
	ino      uint64
	ctime    int64 // ns since 1970
	sec      int64 // mtime
	nsec     uint32
	uid, gid uint32
	mode     uint16
	typ      meta.Type
	flags    flags
	tries    uint8 // readings that did not settle
	extra    *extra
}

type flags uint8

const (
	gone   flags = 1 << iota // vanished between listing and reading
	fresh                    // may change without a trace: not for the cache
	sparse                   // a file with holes
	linked                   // one of several names of its inode
)

type extra struct {
	xattrs       []meta.Xattr
	uncaptured   []string // names of those left out
	major, minor uint32
	below        uint64
	entries      cid.Cid
	inode        inode // if linked
}

func fileType(mode uint32) meta.Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return meta.Dir
	case unix.S_IFLNK:
		return meta.Symlink
	case unix.S_IFIFO:
		return meta.FIFO
	case unix.S_IFSOCK:
		return meta.Socket
	case unix.S_IFCHR:
		return meta.CharDevice
	case unix.S_IFBLK:
		return meta.BlockDevice
	default:
		return meta.File
	}
}

// setStat takes over what stat(2) says.
func (e *entry) setStat(st *unix.Stat_t) {
	e.typ, e.mode = fileType(st.Mode), uint16(st.Mode&meta.ModeMask)
	e.uid, e.gid = st.Uid, st.Gid
	e.sec, e.nsec = st.Mtim.Sec, uint32(st.Mtim.Nsec)
	e.ino, e.ctime = st.Ino, st.Ctim.Nano()
	e.flags &^= linked
	if st.Nlink > 1 && e.typ != meta.Dir {
		e.flags |= linked
	}
	if e.typ == meta.CharDevice || e.typ == meta.BlockDevice {
		x := e.more()
		x.major, x.minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
}

func (e *entry) more() *extra {
	if e.extra == nil {
		e.extra = new(extra)
	}
	return e.extra
}

func (e *entry) setXattrs(xs []meta.Xattr, uncaptured []string) {
	if len(xs) > 0 || len(uncaptured) > 0 || e.extra != nil {
		x := e.more()
		x.xattrs, x.uncaptured = xs, uncaptured
	}
}

func (e *entry) set(f flags, on bool) {
	e.flags &^= f
	if on {
		e.flags |= f
	}
}

// become takes over everything but the name from another name of the same inode.
func (e *entry) become(other *entry) {
	name := e.name
	*e = *other
	e.name = name
}

func (e *entry) attr() meta.Attr {
	a := meta.Attr{
		Type: e.typ, Mode: e.mode, UID: e.uid, GID: e.gid, Sec: e.sec, Nsec: e.nsec,
		Sparse: e.flags&sparse != 0,
	}
	if x := e.extra; x != nil {
		a.Xattrs, a.Major, a.Minor, a.Below, a.Entries = x.xattrs, x.major, x.minor, x.below, x.entries
	}
	return a
}

func (e *entry) child() unixfs.Child { return unixfs.Child{Name: e.name, CID: e.cid, Tsize: e.tsize} }

// sameFile says that nothing was written between two calls of stat.
func sameFile(a, b *unix.Stat_t) bool {
	return a.Ino == b.Ino && a.Dev == b.Dev && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim &&
		a.Mode == b.Mode
}
