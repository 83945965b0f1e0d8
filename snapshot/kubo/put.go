package kubo

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	// batchBytes and batchBlocks bound what one request carries.
	batchBytes  = 8 << 20
	batchBlocks = 4096
)

// Put implements [snapshot.Blocks]. Outside of a session the daemon may collect what was put at any time.
func (b *Blocks) Put(ctx context.Context, bs ...blocks.Block) error {
	return b.put(ctx, bs, b.importBlocks)
}

// put sends blocks in batches, several at a time.
func (b *Blocks) put(ctx context.Context, bs []blocks.Block, send func(context.Context, []blocks.Block) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bs, err := sendable(bs)
	if err != nil {
		return err
	}
	end := b.begin(bs)
	err = b.putAll(ctx, bs, send)
	end(err == nil)
	return err
}

func (b *Blocks) putAll(ctx context.Context, bs []blocks.Block, send func(context.Context, []blocks.Block) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for len(bs) > 0 && ctx.Err() == nil {
		n, size := 0, 0
		for n < len(bs) && n < batchBlocks && (n == 0 || size+len(bs[n].RawData()) <= batchBytes) {
			size += len(bs[n].RawData())
			n++
		}
		batch := bs[:n]
		bs = bs[n:]
		select {
		case b.uploads <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		wg.Go(func() {
			defer func() { <-b.uploads }()
			if err := send(ctx, batch); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// sendable returns the blocks that a daemon has to have, each once.
func sendable(bs []blocks.Block) ([]blocks.Block, error) {
	seen := make(map[string]struct{}, len(bs))
	rest := make([]blocks.Block, 0, len(bs))
	for _, blk := range bs {
		c := blk.Cid()
		if !c.Defined() {
			return nil, fmt.Errorf("put block: undefined CID: %w", snapshot.ErrFormat)
		}
		if size := len(blk.RawData()); size > snapshot.MaxBlockSize {
			return nil, fmt.Errorf("put block %s of %d bytes, more than %d: %w", c, size, snapshot.MaxBlockSize, snapshot.ErrFormat)
		}
		if _, again := seen[string(c.Hash())]; again || c.Prefix().MhType == mh.IDENTITY {
			continue
		}
		seen[string(c.Hash())] = struct{}{}
		rest = append(rest, blk)
	}
	return rest, nil
}

// importBlocks sends one CAR and returns when the daemon has stored all of it.
func (b *Blocks) importBlocks(ctx context.Context, bs []blocks.Block) error {
	car := newForm(func(w io.Writer) error { return writeCAR(w, bs) })
	defer car.wait()
	res, err := b.api.Request("dag/import").Option("pin-roots", false).Option("stats", true).
		Option("allow-big-block", true).Option("fast-provide-root", false).
		Header("Content-Type", car.contentType()).Body(car).Send(withBounds(ctx, bounds{bytes: importAnswer}))
	if err == nil && res.Error != nil {
		err = res.Error
	}
	if err == nil {
		defer res.Cancel()
		err = imported(res.Output, len(bs))
	}
	if err != nil {
		return b.fault(fmt.Sprintf("import %d blocks", len(bs)), err)
	}
	return nil
}

// importAnswer bounds the answer to an import, in bytes.
const importAnswer = 64 << 10

// imported reads the answer to an import, which counts the blocks. Without the count, not all was done.
func imported(r io.Reader, sent int) error {
	lines := json.NewDecoder(r)
	for stored := false; ; {
		var line struct{ Stats *struct{ BlockCount int } }
		err := lines.Decode(&line)
		switch {
		case err == io.EOF && stored:
			return nil
		case err == io.EOF:
			return fmt.Errorf("the answer is not whole: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("read the answer: %w", err)
		case line.Stats != nil && line.Stats.BlockCount != sent:
			return fmt.Errorf("%d blocks arrived: %w", line.Stats.BlockCount, io.ErrUnexpectedEOF)
		}
		stored = stored || line.Stats != nil
	}
}

// writeCAR writes CARv1. It names the first block as its root, because it has to name one.
func writeCAR(w io.Writer, bs []blocks.Block) error {
	header, err := dagcbor.Marshal(struct {
		Roots   []dagcbor.Link `cbor:"roots"`
		Version uint64         `cbor:"version"`
	}{[]dagcbor.Link{{Cid: bs[0].Cid()}}, 1})
	if err != nil {
		return err
	}
	head := append(binary.AppendUvarint(nil, uint64(len(header))), header...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, blk := range bs {
		c := blk.Cid()
		head = binary.AppendUvarint(head[:0], uint64(c.ByteLen()+len(blk.RawData())))
		head = append(head, c.KeyString()...)
		if _, err := w.Write(head); err != nil {
			return err
		}
		if _, err := w.Write(blk.RawData()); err != nil {
			return err
		}
	}
	return nil
}
