package kubo

import (
	"context"
	"fmt"
	"io"

	"github.com/ipfs/boxo/path"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	caopts "github.com/ipfs/kubo/core/coreiface/options"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

// Get implements [snapshot.Blocks]. What the daemon lacks it asks its peers for, unless Options.Offline, as long as the
// caller waits; for a caller who does not say, for up to Options.FetchTimeout. The error wraps
// [snapshot.ErrNotFetched] then.
func (b *Blocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := b.GetInto(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// GetInto is Get into the caller's memory: the bytes are in buf if its capacity suffices, else in new memory.
func (b *Blocks) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if blk, err := local(ctx, c); blk != nil || err != nil {
		return append(buf[:0], rawData(blk)...), err
	}
	fetching := ctx
	if _, bounded := ctx.Deadline(); !b.o.Offline && !bounded {
		var done context.CancelFunc
		fetching, done = context.WithTimeout(ctx, b.o.FetchTimeout)
		defer done()
	}
	data, err := b.getOne(fetching, c, buf)
	if err != nil && ctx.Err() == nil && fetching.Err() != nil {
		err = fmt.Errorf("%w within %s", snapshot.ErrNotFetched, b.o.FetchTimeout)
	}
	if err != nil {
		return nil, b.fault("get block "+c.String(), err)
	}
	if _, err := b.checked(data, c); err != nil {
		return nil, err
	}
	b.saw(len(data))
	return data, nil
}

func rawData(b blocks.Block) []byte {
	if b == nil {
		return nil
	}
	return b.RawData()
}

// saw notes the size of a block, or the mean of some.
func (b *Blocks) saw(size int) { b.size.Store((b.size.Load() + int64(size)) / 2) }

// local answers what needs no daemon; nil if it does.
func local(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.Defined() {
		return nil, fmt.Errorf("get block: undefined CID: %w", snapshot.ErrFormat)
	}
	if c.Prefix().MhType != mh.IDENTITY {
		return nil, nil
	}
	in, err := mh.Decode(c.Hash())
	if err != nil {
		return nil, fmt.Errorf("get block %s: %w: %w", c, snapshot.ErrFormat, err)
	}
	return blocks.NewBlockWithCid(in.Digest, c)
}

// bare is the name under which a daemon takes a block for bytes and nothing else: it neither decodes them nor
// follows their links.
func bare(c cid.Cid) cid.Cid { return cid.NewCidV1(cid.Raw, c.Hash()) }

func (b *Blocks) getOne(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	res, err := b.api.Request("block/get", bare(c).String()).Option("offline", b.o.Offline).
		Send(withBounds(ctx, bounds{bytes: snapshot.MaxBlockSize + 1}))
	if err != nil {
		return nil, err
	}
	if res.Error != nil {
		// What the daemon says in words, the client knows how to read for some requests only.
		core, err := b.api.WithOptions(caopts.Api.Offline(true))
		if err == nil {
			_, err = core.Block().Stat(ctx, path.FromCid(bare(c)))
		}
		if err == nil {
			err = res.Error
		}
		return nil, err
	}
	defer res.Cancel()
	if cap(buf) == 0 {
		buf = make([]byte, 0, b.size.Load()+minRead)
	}
	return readAll(res.Output, buf[:0])
}

// minRead is the least room worth a read.
const minRead = 512

// readAll reads to the end, into buf as long as that has room: also if it has room for just as much.
func readAll(r io.Reader, buf []byte) ([]byte, error) {
	var more [minRead]byte
	for {
		into := buf[len(buf):cap(buf)]
		if len(into) == 0 {
			into = more[:]
		}
		n, err := r.Read(into)
		buf = append(buf, into[:n]...)
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// checked makes a block of bytes that came from the daemon.
func (b *Blocks) checked(data []byte, c cid.Cid) (blocks.Block, error) {
	blk, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return nil, err
	}
	if err := snapshot.CheckHash(blk); err != nil {
		return nil, b.fault("get block", err)
	}
	return blk, nil
}
