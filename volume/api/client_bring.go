package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Bring has the daemon get blocks from elsewhere to where it keeps them, and yields the size of each or why it did not
// come, in the order of cs.
func (b remoteBlocks) Bring(ctx context.Context, cs ...cid.Cid) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for rest := cs; len(rest) > 0; {
			n, goOn, err := b.bringSome(ctx, rest[:min(len(rest), getCIDs)], yield)
			if errors.Is(err, ErrRequest) {
				// An older daemon, which gives what it brings.
				b.getSizes(ctx, rest, yield)
				return
			}
			if !goOn {
				return
			}
			if rest = rest[n:]; err != nil {
				for range rest {
					if !yield(0, err) {
						return
					}
				}
				return
			}
		}
	}
}

func (b remoteBlocks) getSizes(ctx context.Context, cs []cid.Cid, yield func(int, error) bool) {
	for blk, err := range b.GetMany(ctx, cs...) {
		size := 0
		if err == nil {
			size = len(blk.RawData())
		}
		if !yield(size, err) {
			return
		}
	}
}

// bringSome yields the answers to the first n of cs as they come, to at least one unless there is an error, until
// yield does not go on.
func (b remoteBlocks) bringSome(ctx context.Context, cs []cid.Cid, yield func(int, error) bool) (n int, goOn bool, _ error) {
	var body []byte
	for _, c := range cs {
		if err := checkCIDs(c); err != nil {
			return 0, true, err
		}
		body = appendCID(body, c)
	}
	res, err := b.do(ctx, request{method: http.MethodPost, path: prefix + "/blocks/bring", session: b.session, local: b.local}.with(body))
	if err != nil {
		return 0, true, err
	}
	defer res.Body.Close()
	for in := newFrameReader(res.Body, gotBuffer); ; n++ {
		failure, size, err := in.brought()
		switch {
		case err == io.EOF && n > 0:
			return n, true, nil
		case ctx.Err() != nil:
			return n, true, ctx.Err()
		case err == nil && n == len(cs):
			err = errors.New("more than was asked for")
			fallthrough
		case err != nil:
			return n, true, fmt.Errorf("daemon on %s: its answer: %w: %v", b.path, snapshot.ErrUnavailable, within(err))
		}
		if !yield(size, b.decodeError(failure)) {
			return n, false, nil
		}
	}
}
