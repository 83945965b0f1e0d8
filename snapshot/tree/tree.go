// Package tree reads a snapshot as a tree of entries: names, contents and attributes in one place.
//
// Start with [Open], which takes the CID of a commit or of any UnixFS directory or file, and walk the
// [Snapshot] with [Snapshot.Lookup], [Snapshot.Entries] or [Snapshot.Walk]. A commit's tree and sidecar are
// merged directory by directory; where they disagree the tree wins: a row of the sidecar counts only if the
// tree has an entry of that name and type, or if it is of a type that no tree can hold (a device, fifo or
// socket) and the tree has nothing of that name. An entry without a row has the defaults below.
//
// A snapshot may be anybody's. Names are checked, everything read was verified against its CID, memory is
// bounded by one directory for each level of the walk, and walks are bounded in depth and in entries. What is
// refused is an error that wraps [snapshot.ErrFormat] and names the directory.
package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// Permissions of entries that no sidecar describes. Their owner is 0 and their mtime 1970; see Entry.HasMeta.
const (
	DefaultDirMode     = 0o755
	DefaultFileMode    = 0o644
	DefaultSymlinkMode = 0o777
)

// An Entry is a file, directory or other object of a snapshot. Its [meta.Attr] is what the sidecar says, or
// the defaults.
type Entry struct {
	Name string // empty for the root
	meta.Attr
	CID cid.Cid // of the tree's node; undefined for what only the sidecar holds
	// Size is the content of a file in bytes. For a file of one raw block it is what the directory says, at
	// most [snapshot.MaxBlockSize] and not checked until the file is read.
	Size    uint64
	Tsize   uint64 // bytes of all blocks of the tree's node, as the directory says; informative
	Target  string // of a symlink
	HasMeta bool   // the sidecar describes this entry
}

// IsDir reports whether the entry is a directory.
func (e Entry) IsDir() bool { return e.Type == meta.Dir }

// Snapshot is a commit, or a UnixFS DAG that came without one. It is safe for concurrent use.
type Snapshot struct {
	CID    cid.Cid
	Commit *snapshot.Commit // nil for a foreign DAG

	blocks    snapshot.Blocks
	nodes     *nodes // blocks, to read directories from
	root      Entry
	hardlinks cid.Cid
}

// Open reads a snapshot's root. It is an error that wraps [snapshot.ErrFormat] if c is neither a commit whose
// tree and sidecar can be read nor a UnixFS directory, file or symlink.
func Open(ctx context.Context, b snapshot.Blocks, c cid.Cid) (*Snapshot, error) {
	s := &Snapshot{CID: c, blocks: b, nodes: newNodes(b)}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", c, err)
	}
	return s, nil
}

// OpenCommit is Open for a commit that is not stored; the Snapshot has no CID.
func OpenCommit(ctx context.Context, b snapshot.Blocks, commit *snapshot.Commit) (*Snapshot, error) {
	s := &Snapshot{blocks: b, nodes: newNodes(b)}
	if err := s.openTree(ctx, commit); err != nil {
		return nil, fmt.Errorf("open snapshot of tree %s: %w", commit.Tree, err)
	}
	return s, nil
}

func (s *Snapshot) open(ctx context.Context) error {
	if !s.CID.Defined() {
		return fmt.Errorf("no CID: %w", snapshot.ErrFormat)
	}
	switch codec := s.CID.Prefix().Codec; codec {
	case cid.Raw, cid.DagProtobuf:
		var err error
		s.root, err = s.stat(ctx, "", s.CID)
		return err
	case cid.DagCBOR:
		return s.openCommit(ctx)
	default:
		return fmt.Errorf("codec %#x is not that of a commit or a UnixFS node: %w", codec, snapshot.ErrFormat)
	}
}

func (s *Snapshot) openCommit(ctx context.Context) error {
	blk, err := s.blocks.Get(ctx, s.CID)
	if err != nil {
		return err
	}
	if !snapshot.IsCommit(blk) {
		return fmt.Errorf("a dag-cbor node that is no commit: %w", snapshot.ErrFormat)
	}
	commit, err := snapshot.DecodeCommit(blk)
	if err != nil {
		return err
	}
	return s.openTree(ctx, commit)
}

func (s *Snapshot) openTree(ctx context.Context, commit *snapshot.Commit) error {
	root, err := s.stat(ctx, "", commit.Tree)
	if err != nil {
		return fmt.Errorf("tree: %w", err)
	}
	if !root.IsDir() {
		return fmt.Errorf("tree %s is a %s, not a directory: %w", commit.Tree, root.Type, snapshot.ErrFormat)
	}
	if commit.Meta.Defined() {
		m, err := meta.ReadRoot(ctx, s.blocks, commit.Meta)
		if err != nil {
			return fmt.Errorf("sidecar: %w", err)
		}
		root.Attr, root.HasMeta, s.hardlinks = m.Attr, true, m.Hardlinks
	}
	s.Commit, s.root = commit, root
	return nil
}

// HasSidecar reports whether the snapshot says more than a tree can.
func (s *Snapshot) HasSidecar() bool { return s.root.HasMeta }

// Blocks is where the snapshot is read from.
func (s *Snapshot) Blocks() snapshot.Blocks { return s.blocks }

// Root returns the top entry: a directory, or for a foreign DAG also a file or symlink.
func (s *Snapshot) Root() Entry { return s.root }

// Xattrs returns an entry's extended attributes in byte order of their names.
func (s *Snapshot) Xattrs(ctx context.Context, e Entry) ([]meta.Xattr, error) {
	return meta.ReadXattrs(ctx, s.blocks, e.Attr)
}

// Chunks yields the parts of a file's content in order; see [unixfs.Chunks]. Whoever gets the block of a
// chunk without data checks that it has the chunk's size.
func (s *Snapshot) Chunks(ctx context.Context, file Entry) iter.Seq2[unixfs.Chunk, error] {
	return unixfs.Chunks(ctx, s.nodes, file.CID)
}

// ChunksFrom is Chunks without those that end at an offset or before; see [unixfs.ChunksFrom].
func (s *Snapshot) ChunksFrom(ctx context.Context, file Entry, from uint64) iter.Seq2[unixfs.Chunk, error] {
	return unixfs.ChunksFrom(ctx, s.nodes, file.CID, from)
}

// HardlinksCID is the node of the hardlink table; undefined if there are no hardlinks.
func (s *Snapshot) HardlinksCID() cid.Cid { return s.hardlinks }

// Hardlinks yields what the sidecar says about hardlinks, in byte order of the paths. It is not compared with
// the tree: a pair counts only where both paths are there, of the same type and CID, and no directories.
func (s *Snapshot) Hardlinks(ctx context.Context) iter.Seq2[meta.Hardlink, error] {
	return meta.Hardlinks(ctx, s.blocks, s.hardlinks)
}

// Leader returns the path that the file at path is a hardlink of, and whether it is one. The first path of a
// group of hardlinks is its leader and has none.
func (s *Snapshot) Leader(ctx context.Context, path string) (string, bool, error) {
	path, err := cleanPath(path)
	if err != nil {
		return "", false, err
	}
	leader, ok, err := meta.Leader(ctx, s.blocks, s.hardlinks, path)
	if err != nil || !ok {
		return "", false, err
	}
	link, err := s.Lookup(ctx, path)
	if err != nil {
		return "", false, err
	}
	first, err := s.Lookup(ctx, leader)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return leader, SameFile(first, link), nil
}

// SameFile reports whether the tree allows two entries to be names of one file.
func SameFile(a, b Entry) bool { return a.Type == b.Type && !a.IsDir() && a.CID == b.CID }
