package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// getCIDs is how many blocks are asked for at a time. Of usual ones an answer does not hold many more.
const getCIDs = 256

// gotBuffer is how much of an answer is read ahead of the block it is in.
const gotBuffer = 32 << 10

var _ snapshot.ManyGetter = remoteBlocks{}

// GetMany reads an answer as a whole before it yields what is in it, so that a slow loop is not taken for a
// client that has stopped reading.
func (b remoteBlocks) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for rest := cs; len(rest) > 0; {
			got, err := b.getSome(ctx, rest[:min(len(rest), getCIDs)])
			if errors.Is(err, ErrRequest) {
				// An older daemon, which knows how to get one block only.
				blk, err := b.Get(ctx, rest[0])
				got = []result{{blk, err}}
			} else if err != nil {
				failed(err, rest)(yield)
				return
			}
			for _, g := range got {
				if !yield(g.block, g.err) {
					return
				}
			}
			rest = rest[len(got):]
		}
	}
}

// failed is the same error for each of cs.
func failed(err error, cs []cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for range cs {
			if !yield(nil, err) {
				return
			}
		}
	}
}

// result is what came of getting a block.
type result struct {
	block blocks.Block
	err   error
}

// getSome returns the answers to the first of cs, to at least one.
func (b remoteBlocks) getSome(ctx context.Context, cs []cid.Cid) ([]result, error) {
	if err := checkCIDs(cs[0]); err != nil {
		return []result{{err: err}}, nil
	}
	var body []byte
	n := 0
	for n < len(cs) && checkCIDs(cs[n]) == nil {
		body = appendCID(body, cs[n])
		n++
	}
	res, err := b.do(ctx, request{method: http.MethodPost, path: prefix + "/blocks/get", session: b.session, local: b.local}.with(body))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	got, err := b.readGot(res.Body, cs[:n])
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		// Whatever kind of error that is, it is none of the request's.
		return nil, fmt.Errorf("daemon on %s: its answer: %w: %v", b.path, snapshot.ErrUnavailable, err)
	}
	return got, nil
}

// readGot reads the answers to some blocks, and checks each. The memory it takes is bounded, whatever comes.
func (c *client) readGot(r io.Reader, cs []cid.Cid) ([]result, error) {
	in := newFrameReader(r, gotBuffer)
	got := make([]result, 0, len(cs))
	for size := 0; ; {
		failure, data, err := in.got()
		switch {
		case err == io.EOF && len(got) > 0:
			return got, nil
		case err != nil:
			return nil, within(err)
		case len(got) == len(cs) || size >= gotBytes:
			return nil, errors.New("more than was asked for")
		}
		size += len(failure) + len(data)
		g := result{err: c.decodeError(failure)}
		if failure == nil {
			g.block, g.err = checked(data, cs[len(got)])
		}
		got = append(got, g)
	}
}

func (c *client) decodeError(text []byte) error {
	if text == nil {
		return nil
	}
	var j errorJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("daemon on %s: decode its error: %w", c.path, err)
	}
	return c.errors.decode(j)
}

// checked makes a block of bytes that came from the daemon.
func checked(data []byte, c cid.Cid) (blocks.Block, error) {
	blk, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return nil, err
	}
	if err := snapshot.CheckHash(blk); err != nil {
		return nil, fmt.Errorf("get block from the daemon: %w", err)
	}
	return blk, nil
}
