// Package holes says whether a file is sparse. Start with [In]: what takes snapshots and what restores them
// must agree on it, or a file would be restored again and again.
package holes

import (
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
)

// In reports whether there are holes in an open file that st is of. It asks wherever there may be some, not in
// a file that is smaller than one and has blocks: the number of blocks alone says little, since there may be
// some beyond the end. The file's offset moves.
func In(fd int, st *unix.Stat_t) (bool, error) {
	if st.Size == 0 || st.Size <= meta.SparseUnit && st.Blocks > 0 {
		return false, nil
	}
	hole, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
	switch err {
	case nil:
		return hole < st.Size, nil
	case unix.EINVAL, unix.ENXIO: // not known here; the file has shrunk
		return false, nil
	default:
		return false, err
	}
}
