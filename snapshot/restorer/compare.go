package restorer

import (
	"bytes"
	"errors"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/holes"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// errDiffers says that a file on the disk is not the snapshot's.
var errDiffers = errors.New("content differs")

// fileType is the entry's type as stat(2) has it.
func fileType(t meta.Type) uint32 {
	return [...]uint32{
		meta.File: unix.S_IFREG, meta.Dir: unix.S_IFDIR, meta.Symlink: unix.S_IFLNK, meta.FIFO: unix.S_IFIFO,
		meta.Socket: unix.S_IFSOCK, meta.CharDevice: unix.S_IFCHR, meta.BlockDevice: unix.S_IFBLK,
	}[t]
}

// reuse keeps what is there under the entry's name if it is the same but for attributes, and sets those. It
// is not done if the entry must be made anew.
func (r *run) reuse(d *dir, t task) (did outcome, done bool, err error) {
	e := t.entry
	st, err := fstatat(d.fd, e.Name)
	if err == unix.ENOENT {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 0, false, r.clearDir(d, e.Name)
	}
	// Another name of the same file may be outside the target, or of something else in the snapshot.
	shared := st.Nlink > 1 && (t.group == nil || !t.group.intact)
	if st.Mode&unix.S_IFMT != fileType(e.Type) || shared {
		return 0, false, nil
	}
	fd, was, err := r.openToCompare(d, e)
	if err == unix.EACCES || err == unix.ELOOP || err == unix.ENOENT {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(fd)
	h := handle{fd: fd, path: e.Type != meta.File}
	same, err := r.same(h, e)
	if !same || err != nil {
		return 0, false, err
	}
	changed := false
	if e.HasMeta {
		if err := r.step(StepAttrs); err != nil {
			return 0, false, err
		}
		changed, err = r.fix(h, e, was, tree.Join(d.path, e.Name))
	} else if was.loose {
		err = h.chmod(uint32(was.mode))
	}
	if err != nil {
		return 0, false, err
	}
	if changed {
		did = adjusted
	}
	return did, true, nil
}

// openToCompare does not open for reading what acts when it is opened.
func (r *run) openToCompare(d *dir, e tree.Entry) (int, past, error) {
	if e.Type == meta.File {
		return r.openShut(d.fd, e.Name, 0)
	}
	fd, err := openat(d.fd, e.Name, unix.O_PATH, 0)
	return fd, past{}, err
}

// same reports whether what is open is the entry's content, target or device.
func (r *run) same(h handle, e tree.Entry) (bool, error) {
	st, err := fstat(h.fd)
	if err != nil || st.Mode&unix.S_IFMT != fileType(e.Type) {
		return false, err
	}
	switch e.Type {
	case meta.File:
		return r.sameContent(h.fd, st, e)
	case meta.Symlink:
		buf := make([]byte, unixfs.MaxTarget+1)
		n, err := unix.Readlinkat(h.fd, "", buf)
		return err == nil && string(buf[:max(n, 0)]) == e.Target, err
	case meta.CharDevice, meta.BlockDevice:
		return st.Rdev == unix.Mkdev(e.Major, e.Minor), nil
	default:
		return true, nil
	}
}

func (r *run) sameContent(fd int, st *unix.Stat_t, e tree.Entry) (bool, error) {
	if e.CID.Prefix().Codec != cid.Raw && uint64(st.Size) != e.Size || st.Size > snapshot.MaxBlockSize && e.CID.Prefix().Codec == cid.Raw {
		return false, nil
	}
	// What is too small for a hole cannot be given one.
	if e.HasMeta && (!e.Sparse || st.Size > meta.SparseUnit) {
		if holy, err := holes.In(fd, st); err != nil || holy != e.Sparse {
			return false, err
		}
	}
	if e.CID.Prefix().Codec == cid.Raw {
		return ended(r.compare(fd, unixfs.Chunk{Size: uint64(st.Size), CID: e.CID}))
	}
	p := parts{r: r, do: func(c unixfs.Chunk) error { return r.compare(fd, c) }}
	return ended(p.run(e))
}

func ended(err error) (bool, error) {
	if err == errDiffers {
		return false, nil
	}
	return err == nil, err
}

// compare checks a part of a file on the disk against its CID. The block itself is rarely needed.
func (r *run) compare(fd int, c unixfs.Chunk) error {
	buf := r.buffer(c.Size)
	defer r.buffers.Put(buf)
	got := (*buf)[:c.Size]
	if whole, err := pread(fd, got, int64(c.Offset)); !whole || err != nil {
		if err == nil {
			err = errDiffers
		}
		return err
	}
	same := false
	if c.CID.Prefix().Codec == cid.Raw {
		sum, err := c.CID.Prefix().Sum(got)
		if err != nil {
			return err
		}
		same = sum == c.CID
	} else {
		err := r.withChunk(c, func(want []byte) error {
			same = bytes.Equal(got, want)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !same {
		return errDiffers
	}
	r.o.Progress.Bytes.Add(c.Size)
	return nil
}
