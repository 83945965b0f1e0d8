package meta

import (
	"context"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
)

// RootKind is the kind field of a root node.
const RootKind = "volary/meta/1"

// Getter is the part of [snapshot.Blocks] that the readers need.
type Getter interface {
	Get(ctx context.Context, c cid.Cid) (blocks.Block, error)
}

// Putter is the part of [snapshot.Blocks] that the writers need.
type Putter interface {
	Put(ctx context.Context, bs ...blocks.Block) error
}

// wireRow is a row as it is encoded: an array, so that a row is little more than its name.
type wireRow struct {
	_        struct{} `cbor:",toarray"`
	Name     dagcbor.Bytes
	Type     uint8
	Mode     uint16
	UID      uint32
	GID      uint32
	Sec      int64
	Nsec     uint32
	Xattrs   []wireXattr
	XattrsAt dagcbor.Link
	Sparse   bool
	Major    uint32
	Minor    uint32
	Below    uint64
	Entries  dagcbor.Link
}

type wireXattr struct {
	_     struct{} `cbor:",toarray"`
	Name  dagcbor.Bytes
	Value []byte
}

type wireHardlink struct {
	_      struct{} `cbor:",toarray"`
	Path   dagcbor.Bytes
	Leader dagcbor.Bytes
}

type wireRoot struct {
	Kind  string       `cbor:"kind"`
	Root  wireRow      `cbor:"root"`
	Links dagcbor.Link `cbor:"links"`
}

type wireXattrs struct {
	Xattrs []wireXattr `cbor:"xattrs"`
}

func toWire(r Row) wireRow {
	return wireRow{
		Name: dagcbor.Bytes(r.Name), Type: uint8(r.Type), Mode: r.Mode, UID: r.UID, GID: r.GID,
		Sec: r.Sec, Nsec: r.Nsec, Xattrs: xattrsToWire(r.Xattrs), XattrsAt: dagcbor.Link{Cid: r.XattrsAt},
		Sparse: r.Sparse, Major: r.Major, Minor: r.Minor, Below: r.Below, Entries: dagcbor.Link{Cid: r.Entries},
	}
}

func fromWire(w wireRow) Row {
	return Row{Name: string(w.Name), Attr: Attr{
		Type: Type(w.Type), Mode: w.Mode, UID: w.UID, GID: w.GID,
		Sec: w.Sec, Nsec: w.Nsec, Xattrs: xattrsFromWire(w.Xattrs), XattrsAt: w.XattrsAt.Cid,
		Sparse: w.Sparse, Major: w.Major, Minor: w.Minor, Below: w.Below, Entries: w.Entries.Cid,
	}}
}

func xattrsToWire(xs []Xattr) []wireXattr {
	ws := make([]wireXattr, len(xs))
	for i, x := range xs {
		ws[i] = wireXattr{Name: dagcbor.Bytes(x.Name), Value: x.Value}
	}
	return ws
}

func xattrsFromWire(ws []wireXattr) []Xattr {
	if len(ws) == 0 {
		return nil
	}
	xs := make([]Xattr, len(ws))
	for i, w := range ws {
		xs[i] = Xattr{Name: string(w.Name), Value: w.Value}
	}
	return xs
}

// Root is what a sidecar's root node says.
type Root struct {
	Attr              // of the top directory
	Hardlinks cid.Cid // the hardlink table; undefined if there are no hardlinks
}

// WriteRoot writes a root node: the top directory's attributes and the hardlink table, whose entries are in
// byte order of their paths.
func WriteRoot(ctx context.Context, b Putter, root Attr, links []Hardlink) (cid.Cid, error) {
	if root.Type != Dir {
		return cid.Undef, fmt.Errorf("encode sidecar: the root is a %s, not a directory", root.Type)
	}
	if err := root.check(); err != nil {
		return cid.Undef, fmt.Errorf("encode sidecar: %w", err)
	}
	table, err := writeHardlinks(ctx, b, links)
	if err != nil {
		return cid.Undef, err
	}
	return write(ctx, b, wireRoot{Kind: RootKind, Root: toWire(Row{Attr: root}), Links: dagcbor.Link{Cid: table}})
}

// ReadRoot reads a root node.
func ReadRoot(ctx context.Context, b Getter, c cid.Cid) (Root, error) {
	var w wireRoot
	if err := read(ctx, b, c, &w); err != nil {
		return Root{}, err
	}
	row := fromWire(w.Root)
	if err := row.check(); err != nil {
		return Root{}, fmt.Errorf("decode sidecar %s: %w", c, err)
	}
	if w.Kind != RootKind || row.Type != Dir || row.Name != "" {
		return Root{}, fmt.Errorf("decode sidecar %s: not a %s: %w", c, RootKind, snapshot.ErrFormat)
	}
	return Root{Attr: row.Attr, Hardlinks: w.Links.Cid}, nil
}

// maxInlineXattrs is how many encoded bytes of xattrs a row holds itself.
const maxInlineXattrs = 1024

// SpillXattrs moves xattrs that are too many for a row into a node of their own. It is to be called on every
// attribute before it is given to [WriteDir] or [WriteRoot].
func SpillXattrs(ctx context.Context, b Putter, a *Attr) error {
	if xattrSize(a.Xattrs) <= maxInlineXattrs {
		return nil
	}
	if err := checkXattrs(a.Xattrs); err != nil {
		return err
	}
	c, err := write(ctx, b, wireXattrs{Xattrs: xattrsToWire(a.Xattrs)})
	if err != nil {
		return fmt.Errorf("encode xattrs: %w", err)
	}
	a.Xattrs, a.XattrsAt = nil, c
	return nil
}

// ReadXattrs returns an entry's xattrs, wherever they are kept.
func ReadXattrs(ctx context.Context, b Getter, a Attr) ([]Xattr, error) {
	if !a.XattrsAt.Defined() {
		return a.Xattrs, nil
	}
	var w wireXattrs
	if err := read(ctx, b, a.XattrsAt, &w); err != nil {
		return nil, err
	}
	xs := xattrsFromWire(w.Xattrs)
	err := checkXattrs(xs)
	if err == nil && xattrSize(xs) <= maxInlineXattrs {
		err = fmt.Errorf("few enough for the row: %w", snapshot.ErrFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("decode xattrs %s: %w", a.XattrsAt, err)
	}
	return xs, nil
}

func write(ctx context.Context, b Putter, v any) (cid.Cid, error) {
	blk, err := dagcbor.Encode(v)
	if err != nil {
		return cid.Undef, err
	}
	return blk.Cid(), b.Put(ctx, blk)
}

func read(ctx context.Context, b Getter, c cid.Cid, v any) error {
	blk, err := b.Get(ctx, c)
	if err != nil {
		return err
	}
	return dagcbor.Decode(blk, v)
}
