// Package archive moves snapshots between stores as CAR files.
//
// [Export] streams a DAG as CARv1; [Import] takes CARv1 and CARv2, of this program or any other, checks every
// block and says which roots arrived whole.
package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"

	"github.com/volary/volary/snapshot"
)

// ErrIncomplete says that an archive ends early, or lacks blocks that its roots need.
var ErrIncomplete = errors.New("archive is incomplete")

// Stats counts what was moved.
type Stats struct {
	Blocks uint64
	Bytes  uint64 // of the blocks' contents
}

const bufferSize = 1 << 20

// Export writes everything root reaches to w as CARv1 with that one root. The order of the blocks, and so
// the archive's bytes, depend on the DAG alone. Progress, if not nil, is called after each block.
func Export(ctx context.Context, b snapshot.Blocks, root cid.Cid, w io.Writer, progress func(Stats)) (Stats, error) {
	var s Stats
	buf := bufio.NewWriterSize(w, bufferSize)
	// Only an io.Writer: the writer would take an io.WriterAt for a file to be rewound.
	out, err := storage.NewWritable(struct{ io.Writer }{buf}, []cid.Cid{root}, car.WriteAsCarV1(true), car.UseWholeCIDs(true))
	if err != nil {
		return s, fmt.Errorf("write archive: %w", err)
	}
	err = snapshot.WalkDAG(ctx, b, []cid.Cid{root}, func(c cid.Cid, blk blocks.Block, err error) error {
		if err != nil {
			return fmt.Errorf("export %s: %w", c, err)
		}
		if err := out.Put(ctx, c.KeyString(), blk.RawData()); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		s.Blocks, s.Bytes = s.Blocks+1, s.Bytes+uint64(len(blk.RawData()))
		if progress != nil {
			progress(s)
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	if err := buf.Flush(); err != nil {
		return s, fmt.Errorf("write archive: %w", err)
	}
	return s, nil
}

const (
	maxHeader  = 1 << 20 // bytes of roots
	maxCID     = 1 << 10
	batchBytes = 4 << 20
)

// Imported is what an archive held.
type Imported struct {
	Stats
	Roots []cid.Cid
}

// Import puts every block of the archive into b and checks that its roots reach nothing that is missing.
// Blocks that the store has already may be missing from the archive. What was put stays if there is an error,
// for the next attempt, but nothing refers to it. Errors wrap [snapshot.ErrFormat] for what is no archive,
// [snapshot.ErrDamaged] for bytes that do not match their CID, and [ErrIncomplete].
func Import(ctx context.Context, b snapshot.Blocks, r io.Reader, progress func(Stats)) (Imported, error) {
	in, err := car.NewBlockReader(bufio.NewReaderSize(r, bufferSize), car.MaxAllowedHeaderSize(maxHeader),
		car.MaxAllowedSectionSize(snapshot.MaxBlockSize+maxCID), car.WithTrustedCAR(true))
	if err != nil {
		return Imported{}, fmt.Errorf("read archive: %w: %w", snapshot.ErrFormat, err)
	}
	res := Imported{Roots: in.Roots}
	if len(in.Roots) == 0 {
		return res, fmt.Errorf("read archive: it names no root: %w", snapshot.ErrFormat)
	}
	var batch []blocks.Block
	size := 0
	for {
		blk, err := next(in)
		if err != nil && err != io.EOF {
			return res, err
		}
		if err == nil {
			batch, size = append(batch, blk), size+len(blk.RawData())
			res.Blocks, res.Bytes = res.Blocks+1, res.Bytes+uint64(len(blk.RawData()))
		}
		if err == io.EOF || size >= batchBytes {
			if err := b.Put(ctx, batch...); err != nil {
				return res, err
			}
			batch, size = nil, 0
			if progress != nil {
				progress(res.Stats)
			}
		}
		if err == io.EOF {
			return res, complete(ctx, b, in.Roots)
		}
	}
}

// next reads a block and checks it. The reader's own check does not say which block failed in a way that can
// be told from other errors.
func next(in *car.BlockReader) (blocks.Block, error) {
	blk, err := in.Next()
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: it ends inside a block", ErrIncomplete)
	case err != nil:
		return nil, fmt.Errorf("read archive: %w: %w", snapshot.ErrFormat, err)
	}
	if err := snapshot.CheckHash(blk); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return blk, nil
}

func complete(ctx context.Context, b snapshot.Blocks, roots []cid.Cid) error {
	lost := 0
	var first cid.Cid
	err := snapshot.WalkDAG(ctx, b, roots, func(c cid.Cid, _ blocks.Block, err error) error {
		if errors.Is(err, snapshot.ErrNotFound) {
			if lost == 0 {
				first = c
			}
			lost++
			return nil
		}
		return err
	})
	if err == nil && lost > 0 {
		err = fmt.Errorf("%w: %d blocks are missing, the first is %s", ErrIncomplete, lost, first)
	}
	return err
}
