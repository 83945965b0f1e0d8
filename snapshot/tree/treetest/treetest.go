// Package treetest builds snapshots from literals, for tests. Start with [Commit]; [Tree] makes the same
// without a sidecar. It writes through the codecs of unixfs and meta, and nothing of it reads a disk.
package treetest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/unixfs"
)

// Node is an entry of a literal tree.
type Node struct {
	Attr      meta.Attr
	Data      []byte          // of a file
	ChunkSize int             // of a file; 0 is the profile's
	Target    string          // of a symlink
	Children  map[string]Node // of a directory
	NoRow     bool            // the sidecar says nothing of it
	NoTree    bool            // the tree says nothing of it
	Link      cid.Cid         // if defined, what the tree links to instead
}

// Mtime is the modification time, in seconds, of all nodes made here.
const Mtime = 1_600_000_000

func node(t meta.Type, mode uint16) Node {
	return Node{Attr: meta.Attr{Type: t, Mode: mode, Sec: Mtime, Nsec: 123456789}}
}

// File is a regular file.
func File(data string) Node {
	n := node(meta.File, 0o644)
	n.Data = []byte(data)
	return n
}

// Dir is a directory.
func Dir(children map[string]Node) Node {
	n := node(meta.Dir, 0o755)
	n.Children = children
	return n
}

// Symlink is a symbolic link.
func Symlink(target string) Node {
	n := node(meta.Symlink, 0o777)
	n.Target = target
	return n
}

// Special is a fifo, socket or device.
func Special(t meta.Type, major, minor uint32) Node {
	n := node(t, 0o600)
	n.Attr.Major, n.Attr.Minor = major, minor
	return n
}

// With returns the node with its attributes changed.
func (n Node) With(change func(*meta.Attr)) Node {
	n.Attr.Xattrs = slices.Clone(n.Attr.Xattrs)
	change(&n.Attr)
	return n
}

// Commit stores a commit of the directory root.
func Commit(t testing.TB, b snapshot.Blocks, root Node, links ...meta.Hardlink) cid.Cid {
	t.Helper()
	ctx := context.Background()
	entries, below := sidecar(t, b, root)
	attr := root.Attr
	attr.Entries, attr.Below = entries, below
	check(t, meta.SpillXattrs(ctx, b, &attr))
	m, err := meta.WriteRoot(ctx, b, attr, links)
	check(t, err)
	return CommitOf(t, b, Tree(t, b, root), m)
}

// CommitOf stores a commit of a tree and a sidecar.
func CommitOf(t testing.TB, b snapshot.Blocks, tree, sidecar cid.Cid) cid.Cid {
	t.Helper()
	c := &snapshot.Commit{
		Tree: tree, Meta: sidecar, Time: time.Unix(Mtime, 0), Consistency: snapshot.Clean,
		Import: snapshot.ImportInfo{Profile: unixfs.Profile, Chunker: "size-1048576"},
	}
	check(t, snapshot.Extend(context.Background(), b, c))
	blk, err := snapshot.EncodeCommit(c)
	check(t, err)
	check(t, b.Put(context.Background(), blk))
	return blk.Cid()
}

// Tree stores a node and what is below it as UnixFS alone.
func Tree(t testing.TB, b snapshot.Blocks, n Node) cid.Cid {
	t.Helper()
	return writeTree(t, b, n).CID
}

func writeTree(t testing.TB, b snapshot.Blocks, n Node) unixfs.Child {
	ctx := context.Background()
	var c unixfs.Child
	var err error
	switch {
	case n.Link.Defined():
		c = unixfs.Child{CID: n.Link}
	case n.Attr.Type == meta.Dir:
		var cs []unixfs.Child
		for _, name := range slices.Sorted(maps.Keys(n.Children)) {
			if child := n.Children[name]; child.Attr.Type.InTree() && !child.NoTree {
				e := writeTree(t, b, child)
				e.Name = name
				cs = append(cs, e)
			}
		}
		c, err = unixfs.WriteDir(ctx, b, cs)
	case n.Attr.Type == meta.Symlink:
		c, err = unixfs.WriteSymlink(ctx, b, n.Target)
	default:
		c, err = writeFile(ctx, b, n)
	}
	check(t, err)
	return c
}

func writeFile(ctx context.Context, b snapshot.Blocks, n Node) (unixfs.Child, error) {
	size := n.ChunkSize
	if size == 0 {
		size = unixfs.ChunkSize
	}
	f := unixfs.NewFileBuilder(b)
	for chunk := range slices.Chunk(n.Data, size) {
		leaf := unixfs.Leaf(chunk)
		if err := b.Put(ctx, leaf); err != nil {
			return unixfs.Child{}, err
		}
		if err := f.Add(ctx, leaf.Cid(), uint64(len(chunk))); err != nil {
			return unixfs.Child{}, err
		}
	}
	return f.Finish(ctx)
}

// sidecar stores the rows of a directory's entries.
func sidecar(t testing.TB, b snapshot.Blocks, dir Node) (cid.Cid, uint64) {
	ctx := context.Background()
	var rows []meta.Row
	for _, name := range slices.Sorted(maps.Keys(dir.Children)) {
		n := dir.Children[name]
		if n.NoRow {
			continue
		}
		row := meta.Row{Name: name, Attr: n.Attr}
		if n.Attr.Type == meta.Dir {
			row.Entries, row.Below = sidecar(t, b, n)
		}
		check(t, meta.SpillXattrs(ctx, b, &row.Attr))
		rows = append(rows, row)
	}
	c, below, err := meta.WriteDir(ctx, b, rows)
	check(t, err)
	return c, below
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Owned returns the node and all below it with another owner, as an unprivileged test needs its own.
func (n Node) Owned(uid, gid int) Node {
	n.Attr.UID, n.Attr.GID = uint32(uid), uint32(gid)
	if n.Children != nil {
		children := make(map[string]Node, len(n.Children))
		for name, child := range n.Children {
			children[name] = child.Owned(uid, gid)
		}
		n.Children = children
	}
	return n
}
