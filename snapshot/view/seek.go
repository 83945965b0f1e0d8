package view

import (
	"bytes"
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// Lseek implements [fuse.RawFileSystem]: it finds the holes of a sparse file, which are its aligned runs of
// zeros.
func (v *View) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	ctx, done := v.within()
	defer done()
	n, _, p, err := v.of(ctx, in.NodeId)
	if err != nil {
		return v.status(p, err)
	}
	hole := in.Whence == unix.SEEK_HOLE
	if n.kind != meta.File || !hole && in.Whence != unix.SEEK_DATA {
		return fuse.EINVAL
	}
	if in.Offset >= n.size {
		return fuse.Status(syscall.ENXIO)
	}
	switch {
	case n.sparse:
		var found bool
		if out.Offset, found, err = v.seek(ctx, n, in.Offset, hole); err == nil && !found {
			return fuse.Status(syscall.ENXIO)
		}
		return v.status(p, err)
	case hole:
		out.Offset = n.size
	default:
		out.Offset = in.Offset
	}
	return fuse.OK
}

// seek returns the first offset from one on that is in a hole, or that is not. There is a hole at the end.
func (v *View) seek(ctx context.Context, n node, from uint64, hole bool) (at uint64, found bool, err error) {
	s := scan{hole: hole, from: from, at: from &^ (meta.SparseUnit - 1)}
	err = v.chunksAt(ctx, n, s.at, func(c unixfs.Chunk) (bool, error) {
		b, err := v.data(ctx, c, true)
		if err != nil {
			return false, err
		}
		if c.Offset < s.at {
			b = b[min(s.at-c.Offset, uint64(len(b))):]
		}
		return !s.feed(b), nil
	})
	switch {
	case err != nil || s.found:
		return s.result, s.found, err
	case s.end():
		return s.result, true, nil
	case hole:
		return n.size, true, nil
	}
	return 0, false, nil
}

// scan looks through the units of a file.
type scan struct {
	hole   bool   // what is looked for
	from   uint64 // where
	at     uint64 // begin of the unit that is being read
	length int    // of what was read of it
	data   bool   // something in it is not zero
	found  bool
	result uint64
}

var zeros [meta.SparseUnit]byte

// feed takes the next bytes, and reports whether it found what is looked for.
func (s *scan) feed(b []byte) bool {
	for len(b) > 0 && !s.found {
		part := b[:min(len(b), meta.SparseUnit-s.length)]
		b = b[len(part):]
		s.data = s.data || !bytes.Equal(part, zeros[:len(part)])
		if s.length += len(part); s.length == meta.SparseUnit {
			s.end()
		}
	}
	return s.found
}

// end judges a unit.
func (s *scan) end() bool {
	if s.length > 0 && !s.found && s.data != s.hole {
		s.found, s.result = true, max(s.at, s.from)
	}
	s.at, s.length, s.data = s.at+uint64(s.length), 0, false
	return s.found
}
