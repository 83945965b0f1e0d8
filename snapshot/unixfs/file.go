package unixfs

import (
	"context"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/meta"
)

// FileBuilder joins the leaves of a file to a balanced DAG. Leaves are added in their order; inner nodes are
// written as soon as they are full, so that memory is bounded by the depth of the DAG.
//
// The file of one leaf is that leaf; the empty file is the empty leaf.
type FileBuilder struct {
	b      meta.Putter
	width  int     // links in a node
	levels []level // the leaves' first
}

type level struct {
	links []Child
	sizes []uint64 // content bytes below each link
}

// NewFileBuilder returns a builder that writes inner nodes to b; the leaves are the caller's to write.
func NewFileBuilder(b meta.Putter) *FileBuilder { return &FileBuilder{b: b, width: FileLinks} }

// Add adds the next leaf, of size bytes of content.
func (f *FileBuilder) Add(ctx context.Context, leaf cid.Cid, size uint64) error {
	return f.push(ctx, 0, Child{CID: leaf, Tsize: size}, size)
}

// Finish writes what is left and returns the file, its name left to the caller. The builder may then be used
// for another file.
func (f *FileBuilder) Finish(ctx context.Context) (Child, error) {
	if len(f.levels) == 0 || len(f.levels[0].links) == 0 {
		leaf := Leaf(nil)
		return Child{CID: leaf.Cid()}, f.b.Put(ctx, leaf)
	}
	for l := 0; ; l++ {
		links := f.levels[l].links
		if len(links) == 1 && (l == len(f.levels)-1 || len(f.levels[l+1].links) == 0) {
			f.levels[l].reset()
			return links[0], nil
		}
		if err := f.fold(ctx, l); err != nil {
			return Child{}, err
		}
	}
}

// push adds a link to a level; a full level first becomes one link of the next.
func (f *FileBuilder) push(ctx context.Context, l int, c Child, size uint64) error {
	if l == len(f.levels) {
		f.levels = append(f.levels, level{})
	}
	if len(f.levels[l].links) == f.width {
		if err := f.fold(ctx, l); err != nil {
			return err
		}
	}
	f.levels[l].links = append(f.levels[l].links, c)
	f.levels[l].sizes = append(f.levels[l].sizes, size)
	return nil
}

// fold writes the node of a level's links and pushes it to the next level.
func (f *FileBuilder) fold(ctx context.Context, l int) error {
	lv := &f.levels[l]
	d := fsData{typ: typeFile, sizes: lv.sizes}
	for _, s := range lv.sizes {
		d.declared += s
	}
	c, err := writeNode(ctx, f.b, lv.links, d)
	if err != nil {
		return err
	}
	lv.reset()
	return f.push(ctx, l+1, c, d.declared)
}

func (lv *level) reset() { lv.links, lv.sizes = lv.links[:0], lv.sizes[:0] }

// writeNode stores a dag-pb node; links are in byte order of their names.
func writeNode(ctx context.Context, b meta.Putter, links []Child, d fsData) (Child, error) {
	blk := newBlock(cid.DagProtobuf, encode(links, appendData(nil, d)))
	tsize := uint64(len(blk.RawData()))
	for _, l := range links {
		tsize += l.Tsize
	}
	return Child{CID: blk.Cid(), Tsize: tsize}, b.Put(ctx, blk)
}
