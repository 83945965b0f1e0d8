package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// getMany answers a list of CIDs with what there is to say of each, in their order. It ends early once the
// answer is large enough: a caller who works on what it has got does not hold a turn meanwhile.
func (s *Server) getMany(c *call) error {
	b, cs, done, err := c.wanted()
	if err != nil {
		return err
	}
	defer done()
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	out := s.writers.Get().(*bufio.Writer)
	defer s.writers.Put(out)
	out.Reset(c.w)
	defer out.Reset(nil)
	c.w.Header().Set("Content-Type", typeBytes)
	var header []byte
	size := 0
	for data, err := range s.getEach(c.r.Context(), b, cs, *buf) {
		if err == nil {
			header = appendUvarint(appendUvarint(header[:0], 0), len(data))
			s.metrics.got(len(data))
		} else if header, err = c.appendError(header[:0], err); err != nil {
			return err
		}
		size += len(header) + len(data)
		if _, err := out.Write(header); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
		if size >= gotBytes {
			break
		}
	}
	return out.Flush()
}

// wanted is what a list of CIDs is to be read from, and the CIDs. The caller holds a turn until done.
func (c *call) wanted() (b snapshot.Blocks, cs []cid.Cid, done func(), err error) {
	if b, err = c.blocks(); err != nil {
		return nil, nil, nil, err
	}
	if cs, err = c.cids(); err != nil {
		return nil, nil, nil, err
	}
	done, err = c.transfer()
	return b, cs, done, err
}

// getEach reads blocks one after another into buf, or together if some of them are not here and come from elsewhere.
func (s *Server) getEach(ctx context.Context, b snapshot.Blocks, cs []cid.Cid, buf []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if far(ctx, b, cs...) {
			s.getFar(ctx, b, cs, gotBytes, yield)
			return
		}
		for _, c := range cs {
			if !yield(getInto(ctx, b, c, buf)) {
				return
			}
		}
	}
}

// usualFar is what a block from elsewhere is taken to have before any was seen.
const usualFar = 128 << 10

// getFar gets blocks together, no more at a time than an answer of so many bytes will probably have room for: what is
// under way when it ends was got in vain.
func (s *Server) getFar(ctx context.Context, b snapshot.Blocks, cs []cid.Cid, room int, yield func([]byte, error) bool) {
	for size := 0; len(cs) > 0; {
		usual := cmp.Or(s.farSize.Load(), usualFar)
		n := min(len(cs), max(1, (room-size)/int(usual)))
		for blk, err := range snapshot.GetMany(ctx, b, cs[:n]...) {
			var data []byte
			if err == nil {
				data = blk.RawData()
				s.farSize.Store(usual + (int64(len(data))-usual)/4 + 1)
				usual = s.farSize.Load()
			}
			size += len(data)
			if !yield(data, err) {
				return
			}
		}
		cs = cs[n:]
	}
}

// farGetter is what blocks have that get what is not here from elsewhere: Far says whether any of cs is such.
type farGetter interface {
	Far(ctx context.Context, cs ...cid.Cid) bool
}

func far(ctx context.Context, b snapshot.Blocks, cs ...cid.Cid) bool {
	f, ok := b.(farGetter)
	return ok && f.Far(ctx, cs...)
}

// appendError appends what is answered for a block that could not be had.
func (c *call) appendError(b []byte, err error) ([]byte, error) {
	status, j := c.server.errors.encode(c.explain(err))
	if status == http.StatusInternalServerError {
		c.logFailure(err)
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return appendString(b, text), nil
}
