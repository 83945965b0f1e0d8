package unixfs

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
)

const (
	maxFileSize  = 1<<63 - 1 // as off_t has it
	maxFileDepth = 64        // far above any layout: 1024^6 leaves need a depth of 6
)

// List returns the entries of a directory in byte order of their names, which are valid ([meta.CheckName])
// and differ.
func List(ctx context.Context, b meta.Getter, dir cid.Cid) ([]Child, error) {
	n, err := get(ctx, b, dir)
	if err != nil {
		return nil, err
	}
	var children []Child
	switch n.typ {
	case typeDirectory:
		children, err = basicChildren(n)
	case typeShard:
		children, err = shardChildren(ctx, b, n)
	default:
		err = malformed("node is not a directory")
	}
	if err != nil {
		return nil, fmt.Errorf("list directory %s: %w", dir, err)
	}
	return children, nil
}

// Find returns the entry of a directory with the given name, and whether there is one. Of a sharded directory
// it reads only the shards on the way to the name.
func Find(ctx context.Context, b meta.Getter, dir cid.Cid, name string) (Child, bool, error) {
	n, err := get(ctx, b, dir)
	if err != nil {
		return Child{}, false, err
	}
	var c Child
	var found bool
	switch n.typ {
	case typeDirectory:
		var children []Child
		if children, err = basicChildren(n); err == nil {
			var i int
			if i, found = slices.BinarySearchFunc(children, name, compareName); found {
				c = children[i]
			}
		}
	case typeShard:
		c, found, err = findInShard(ctx, b, n, name)
	default:
		err = malformed("node is not a directory")
	}
	if err != nil {
		return Child{}, false, fmt.Errorf("find %q in directory %s: %w", name, dir, err)
	}
	if !found {
		return Child{}, false, nil
	}
	return c, true, nil
}

func compareName(c Child, name string) int { return strings.Compare(c.Name, name) }

func basicChildren(n fsNode) ([]Child, error) {
	for _, c := range n.links {
		if err := meta.CheckName(c.Name); err != nil {
			return nil, err
		}
	}
	return n.links, sortUnique(n.links)
}

// sortUnique sorts by name, and refuses names that occur twice.
func sortUnique(cs []Child) error {
	byName := func(a, b Child) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(cs, byName) {
		slices.SortFunc(cs, byName)
	}
	for i := 1; i < len(cs); i++ {
		if cs[i-1].Name == cs[i].Name {
			return malformed("name %q occurs twice", cs[i].Name)
		}
	}
	return nil
}

// Chunk is a run of bytes in a file.
type Chunk struct {
	Offset uint64
	Size   uint64  // greater than zero
	CID    cid.Cid // the leaf whose content the chunk is; if Data is set, the node that holds it
	Data   []byte  // the bytes, if they are at hand already; a leaf without Data is a raw block
}

// Chunks yields the chunks of a file in their order, without gaps; an empty file has none. Raw leaves are not
// read: whoever reads one checks that it has Size bytes. The sizes that nodes declare are checked against
// each other. Memory is bounded by the depth of the DAG, which is bounded.
func Chunks(ctx context.Context, b meta.Getter, file cid.Cid) iter.Seq2[Chunk, error] {
	return ChunksFrom(ctx, b, file, 0)
}

// ChunksFrom is Chunks without those that end at an offset or before. What is only above them is not read.
func ChunksFrom(ctx context.Context, b meta.Getter, file cid.Cid, from uint64) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		w := chunkWalk{ctx: ctx, b: b, from: from, yield: yield}
		if err := w.root(file); err != nil {
			yield(Chunk{}, fmt.Errorf("read file %s: %w", file, err))
		}
	}
}

type chunkWalk struct {
	ctx   context.Context
	b     meta.Getter
	from  uint64
	yield func(Chunk, error) bool
	done  bool // yield asked for no more
}

func (w *chunkWalk) emit(c Chunk) {
	if c.Offset+c.Size > w.from && c.Size > 0 && !w.done {
		w.done = !w.yield(c, nil)
	}
}

func (w *chunkWalk) root(file cid.Cid) error {
	if file.Prefix().Codec == cid.Raw {
		blk, err := w.b.Get(w.ctx, file)
		if err != nil {
			return err
		}
		w.emit(Chunk{Size: uint64(len(blk.RawData())), CID: file, Data: blk.RawData()})
		return nil
	}
	n, err := get(w.ctx, w.b, file)
	if err != nil {
		return err
	}
	size, err := n.fileSize()
	if err != nil {
		return err
	}
	return w.inner(n, 0, size, 0)
}

func (w *chunkWalk) inner(n fsNode, offset, size uint64, depth int) error {
	got, err := n.fileSize()
	switch {
	case err != nil:
		return err
	case got != size:
		return malformed("node %s has %d bytes where %d are declared", n.cid, got, size)
	case depth > maxFileDepth:
		return malformed("file deeper than %d nodes", maxFileDepth)
	}
	w.emit(Chunk{Offset: offset, Size: uint64(len(n.data)), CID: n.cid, Data: n.data})
	offset += uint64(len(n.data))
	for i, l := range n.links {
		if w.done {
			return nil
		}
		if err := w.child(l.CID, offset, n.sizes[i], depth+1); err != nil {
			return err
		}
		offset += n.sizes[i]
	}
	return nil
}

// child walks what is below a link. A part of no bytes is passed over unread: a DAG of such parts could be
// exponential without ever getting on. So is what ends before the walk begins.
func (w *chunkWalk) child(c cid.Cid, offset, size uint64, depth int) error {
	if size == 0 || offset+size <= w.from {
		return nil
	}
	if c.Prefix().Codec == cid.Raw {
		if size > snapshot.MaxBlockSize {
			return malformed("leaf %s of %d bytes", c, size)
		}
		w.emit(Chunk{Offset: offset, Size: size, CID: c})
		return nil
	}
	n, err := get(w.ctx, w.b, c)
	if err != nil {
		return err
	}
	return w.inner(n, offset, size, depth)
}
