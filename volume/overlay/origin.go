package overlay

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
)

// A file handle as overlayfs stores it (struct ovl_fb of fs/overlayfs/overlayfs.h): five bytes, the uuid of the
// file system and what the file system itself needs to find the file. Of FUSE (fuse_encode_fh of
// fs/fuse/inode.c) that is the node ID, the upper half first, and a generation, each in the machine's order.
const (
	handleVersion = 0
	handleMagic   = 0xfb
	handleFID     = 21
	handleSize    = handleFID + 12
	fuseHandle    = 0x81 // FILEID_INO64_GEN
)

// nodeID reads the node ID out of a stored handle.
func nodeID(handle []byte) (uint64, error) {
	switch {
	case len(handle) < handleSize || handle[0] != handleVersion || handle[1] != handleMagic || int(handle[2]) != len(handle):
		return 0, fmt.Errorf("not a file handle of overlayfs: %x", handle)
	case handle[4] != fuseHandle:
		return 0, fmt.Errorf("file handle of type %#x, not that of a FUSE file system", handle[4])
	}
	fid := handle[handleFID:]
	return uint64(binary.NativeEndian.Uint32(fid))<<32 | uint64(binary.NativeEndian.Uint32(fid[4:])), nil
}

// origin returns the path in the base of the file that an index entry is the copy of.
func (m *merger) origin(ctx context.Context, indexName string) (string, error) {
	handle, err := hex.DecodeString(indexName)
	if err != nil {
		return "", fmt.Errorf("its name is no file handle: %w", ErrMismatch)
	}
	id, err := nodeID(handle)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, ErrMismatch)
	}
	e, err := m.base.At(ctx, NumberOfNode(id))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("node %d: %w", id, ErrMismatch)
	}
	return e.Path, err
}

// NumberOfNode is the number in the snapshot of the entry with a node ID; see [NodeOfNumber].
func NumberOfNode(id uint64) uint64 { return id - 1 }

// NodeOfNumber is the node ID of the lower layer's entry with a number (see [tree.Snapshot.At]). FUSE's root is 1.
func NodeOfNumber(n uint64) uint64 { return n + 1 }
