package restorer

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// writeback is how many bytes of a large file are written before the kernel is asked to start bringing them
// to the disk, so that the disk does not idle until the sync at the end.
const writeback = 8 << 20

// makeFile makes a file under a name that does not exist, and leaves nothing if it fails.
func (r *run) makeFile(d *dir, name string, t task) error {
	if err := r.step(StepCreate); err != nil {
		return err
	}
	fd, err := openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, uint32(t.entry.Mode&0o777))
	if err != nil {
		return err
	}
	err = r.writeFile(d, fd, t)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd, name, 0) // the error is the one to tell
	}
	return err
}

func (r *run) writeFile(d *dir, fd int, t task) error {
	e := t.entry
	if err := r.step(StepWrite); err != nil {
		return err
	}
	if err := r.writeContent(fd, t); err != nil {
		return err
	}
	if !e.HasMeta {
		return nil
	}
	h := handle{fd: fd}
	if d.acl {
		if err := dropACLs(h, aclAccess); err != nil {
			return err
		}
	}
	if err := r.step(StepAttrs); err != nil {
		return err
	}
	_, err := r.fix(h, e, past{fresh: true}, tree.Join(d.path, e.Name))
	return err
}

func (r *run) writeContent(fd int, t task) error {
	e := t.entry
	if oneBlock(e) {
		return r.withContent(t, func(data []byte) error {
			r.wrote(len(data))
			return pwrite(fd, data, 0)
		})
	}
	if e.Sparse || e.Size > writeback {
		// An impossible size is refused here, before anything is written.
		if err := retry(func() error { return unix.Ftruncate(fd, int64(e.Size)) }); err != nil {
			return fmt.Errorf("file of %d bytes: %w", e.Size, err)
		}
	}
	w := writer{r: r, fd: fd, sparse: e.Sparse, direct: -1}
	if e.Size >= directFrom && !e.Sparse {
		if w.direct = openDirect(fd); w.direct >= 0 {
			defer unix.Close(w.direct)
			// In one piece, and refused now if there is no room. Not every filesystem can.
			err := retry(func() error { return unix.Fallocate(fd, 0, 0, int64(e.Size)) })
			if err != nil && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
				return fmt.Errorf("file of %d bytes: %w", e.Size, err)
			}
		}
	}
	p := parts{r: r, do: w.write}
	return p.run(e)
}

// oneBlock tells whether a file's block is its content, and written as it is.
func oneBlock(e tree.Entry) bool { return e.CID.Prefix().Codec == cid.Raw && !e.Sparse }

func (r *run) wrote(n int) {
	r.tally.bytes.Add(uint64(n))
	r.o.Progress.Bytes.Add(uint64(n))
}

// writer writes the chunks of one file, in any order.
type writer struct {
	r      *run
	fd     int
	direct int // the same file, past the page cache; -1 if it is not written like that
	sparse bool
	dirty  atomic.Uint64 // bytes written since the last writeback
}

func (w *writer) write(c unixfs.Chunk) error {
	return w.r.withChunk(c, func(data []byte) error {
		if err := w.put(data, int64(c.Offset)); err != nil {
			return err
		}
		w.r.wrote(len(data))
		w.startWriteback(uint64(len(data)))
		return nil
	})
}

func (w *writer) startWriteback(n uint64) {
	if w.direct < 0 && w.dirty.Add(n) >= writeback {
		w.dirty.Store(0)
		// Only a hint: the sync at the end reports what goes wrong.
		_ = unix.SyncFileRange(w.fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
}

// put writes data at an offset. In a sparse file it leaves out the zero runs that are holes, also where the
// run goes on in the next chunk: what is not written is zero.
func (w *writer) put(data []byte, offset int64) error {
	if !w.sparse {
		return w.pwrite(data, offset)
	}
	start := 0
	for at := 0; at < len(data); {
		end := min(at+meta.SparseUnit-int(offset+int64(at))%meta.SparseUnit, len(data))
		if isZero(data[at:end]) {
			if err := pwrite(w.fd, data[start:at], offset+int64(start)); err != nil {
				return err
			}
			start = end
		}
		at = end
	}
	return pwrite(w.fd, data[start:], offset+int64(start))
}

func isZero(p []byte) bool {
	var zeros [meta.SparseUnit]byte
	return bytes.Equal(p, zeros[:len(p)])
}
