// Package unixfs reads and writes the trees of a snapshot: UnixFS directories, files and symlinks, as the
// rest of IPFS has them. It is the profile unixfs-v1-2025 (IPIP-499): what is written here is bit-identical to
// what `ipfs add` writes under that profile.
//
// To read, start with [Stat], then [List] or [Find] a directory and [Chunks] a file. To write, [Leaf] makes a
// chunk of a file, [FileBuilder] joins chunks, [WriteDir] and [WriteSymlink] do the rest.
//
// Readers take foreign DAGs, of any chunker, width and codec of the leaves, but trust nothing in them: names,
// sizes, depths and the positions in a sharded directory are checked, and the work done and the memory held
// are bounded by the blocks that are really there. What is refused is an error that wraps
// [snapshot.ErrFormat].
package unixfs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
)

// The profile unixfs-v1-2025, by its name in IPIP-499.
const (
	Profile   = "unixfs-v1-2025"
	ChunkSize = 1 << 20 // bytes in a chunk of a file
	FileLinks = 1024    // links in an inner node of a file

	shardSize = 256 << 10 // a directory whose block would be larger is sharded
	fanout    = 256       // children of a shard
)

// MaxTarget is the longest target of a symlink in bytes: Linux' PATH_MAX without its NUL.
const MaxTarget = 4095

// Kind is what a node is.
type Kind uint8

const (
	File Kind = iota
	Dir
	Symlink
)

func (k Kind) String() string { return [...]string{"file", "dir", "symlink"}[k] }

// Node is what the root block of a file, directory or symlink says.
type Node struct {
	Kind   Kind
	Size   uint64 // bytes of a file's content
	Target string // of a symlink
}

// Child is an entry of a directory.
type Child struct {
	Name  string
	CID   cid.Cid
	Tsize uint64 // bytes of all blocks below, repetitions included; informative, never trusted
}

// Stat says what b is the root of. It is an error that wraps [snapshot.ErrFormat] if b is no UnixFS node.
func Stat(b blocks.Block) (Node, error) {
	n, err := stat(b)
	if err != nil {
		return Node{}, fmt.Errorf("read unixfs node %s: %w", b.Cid(), err)
	}
	return n, nil
}

func stat(b blocks.Block) (Node, error) {
	if b.Cid().Prefix().Codec == cid.Raw {
		return Node{Kind: File, Size: uint64(len(b.RawData()))}, nil
	}
	n, err := decode(b)
	if err != nil {
		return Node{}, err
	}
	switch n.typ {
	case typeDirectory, typeShard:
		return Node{Kind: Dir}, nil
	case typeSymlink:
		target := string(n.data)
		if target == "" || len(target) > MaxTarget || strings.IndexByte(target, 0) >= 0 || len(n.links) > 0 {
			return Node{}, malformed("symlink with an impossible target of %d bytes", len(target))
		}
		return Node{Kind: Symlink, Target: target}, nil
	default:
		size, err := n.fileSize()
		return Node{Kind: File, Size: size}, err
	}
}

// Leaf makes the block of a file's chunk. It keeps data.
func Leaf(data []byte) blocks.Block { return newBlock(cid.Raw, data) }

// WriteSymlink stores a symlink.
func WriteSymlink(ctx context.Context, b meta.Putter, target string) (Child, error) {
	if target == "" || len(target) > MaxTarget || strings.IndexByte(target, 0) >= 0 {
		return Child{}, malformed("symlink with an impossible target of %d bytes", len(target))
	}
	return writeNode(ctx, b, nil, fsData{typ: typeSymlink, data: []byte(target)})
}

// newBlock names data by CIDv1 with SHA-256.
func newBlock(codec byte, data []byte) blocks.Block {
	sum := sha256.Sum256(data)
	raw := [4 + sha256.Size]byte{1, codec, 0x12, sha256.Size}
	copy(raw[4:], sum[:])
	c, err := cid.Cast(raw[:])
	if err != nil {
		panic(err) // raw is a CID by construction
	}
	blk, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		panic(err)
	}
	return blk
}

func get(ctx context.Context, b meta.Getter, c cid.Cid) (fsNode, error) {
	if codec := c.Prefix().Codec; codec != cid.DagProtobuf {
		return fsNode{}, malformed("read unixfs node %s: codec %#x is not dag-pb", c, codec)
	}
	blk, err := b.Get(ctx, c)
	if err != nil {
		return fsNode{}, err
	}
	n, err := decode(blk)
	if err != nil {
		return fsNode{}, fmt.Errorf("read unixfs node %s: %w", c, err)
	}
	return n, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, snapshot.ErrFormat)...)
}
