package importer

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// holeMap remembers where the holes of a file are as far as was asked.
type holeMap struct {
	mu       sync.Mutex
	known    bool
	sparse   bool
	from, to int64 // no data between them
}

func (h *holeMap) found(sparse bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known, h.sparse = true, sparse
}

func (h *holeMap) any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sparse
}

// cover reports whether there is nothing but hole from off for n bytes.
func (h *holeMap) cover(fd int, off, n int64) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known && !h.sparse {
		return false, nil
	}
	if h.from <= off && off+n <= h.to {
		return true, nil
	}
	data, err := unix.Seek(fd, off, unix.SEEK_DATA)
	switch err {
	case nil:
	case unix.ENXIO: // no data up to the end, if that is still where it was
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return false, err
		}
		data = st.Size
	case unix.EINVAL:
		return false, nil
	default:
		return false, err
	}
	if data > off {
		h.from, h.to = off, data
	}
	return off+n <= data, nil
}

// zeroChunk is the chunk of zeros, hashed and stored when a hole first needs it.
type zeroChunk struct {
	once sync.Once
	cid  cid.Cid
	err  error
}

func (z *zeroChunk) leaf(ctx context.Context, b meta.Putter, size int64) (cid.Cid, error) {
	z.once.Do(func() {
		leaf := unixfs.Leaf(make([]byte, size))
		z.cid, z.err = leaf.Cid(), b.Put(ctx, leaf)
	})
	return z.cid, z.err
}
