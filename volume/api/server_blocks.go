package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// blocks is what the request asks, reads and writes: the session it names, or else the store.
func (c *call) blocks() (snapshot.Blocks, error) {
	b := c.server.host.Blocks
	if c.r.Header.Get(sessionHeader) != "" {
		x, err := c.session()
		if err != nil {
			return nil, err
		}
		b = x
	}
	if c.r.Header.Get(localHeader) != "" {
		b = snapshot.Local(b)
	}
	return b, nil
}

// transfer waits for the caller's turn to move blocks.
func (c *call) transfer() (done func(), _ error) {
	return c.server.callers.of(c.peer.UID).transfer(c.r.Context())
}

func (s *Server) headBlock(c *call) error {
	id, err := c.pathCID()
	if err != nil {
		return err
	}
	b, err := c.blocks()
	if err != nil {
		return err
	}
	has, err := b.Has(c.r.Context(), id)
	if err != nil {
		return err
	}
	if !has[0] {
		return fmt.Errorf("block %s: %w", id, snapshot.ErrNotFound)
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) getBlock(c *call) error {
	id, err := c.pathCID()
	if err != nil {
		return err
	}
	b, err := c.blocks()
	if err != nil {
		return err
	}
	done, err := c.transfer()
	if err != nil {
		return err
	}
	defer done()
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	data, err := getInto(c.r.Context(), b, id, *buf)
	if err != nil {
		return err
	}
	if err := c.bytes(typeRaw, data); err != nil {
		return err
	}
	s.metrics.got(len(data))
	return nil
}

// getInto reads a block, into buf if the store can.
func getInto(ctx context.Context, b snapshot.Blocks, id cid.Cid, buf []byte) ([]byte, error) {
	if g, ok := b.(interface {
		GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
	}); ok {
		return g.GetInto(ctx, id, buf)
	}
	blk, err := b.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return blk.RawData(), nil
}

func (s *Server) dropBlock(c *call) error {
	id, err := c.pathCID()
	if err != nil {
		return err
	}
	if err := s.host.Upkeep.Drop(c.r.Context(), id); err != nil {
		return err
	}
	c.log("block dropped", logRoot, id)
	return c.done()
}

func (s *Server) putBlocks(c *call) error {
	b, err := c.blocks()
	if err != nil {
		return err
	}
	done, err := c.transfer()
	if err != nil {
		return err
	}
	defer done()
	in := s.readers.Get().(*blockReader)
	defer s.readers.Put(in)
	in.reset(c.r.Body)
	defer in.reset(nil)
	for {
		batch, err := in.batch()
		if err == io.EOF {
			return c.done()
		}
		if err != nil {
			return err
		}
		bytes := 0
		for _, blk := range batch {
			if err := checkStranger(blk); err != nil {
				return err
			}
			bytes += len(blk.RawData())
		}
		if err := b.Put(c.r.Context(), batch...); err != nil {
			return err
		}
		s.metrics.put(len(batch), bytes)
	}
}

// has answers a list of CIDs with a byte each: 1 for those that are there.
func (s *Server) has(c *call) error {
	b, err := c.blocks()
	if err != nil {
		return err
	}
	return c.ask(b.Has)
}

// ask answers a list of CIDs with a byte each.
func (c *call) ask(question func(ctx context.Context, cs ...cid.Cid) ([]bool, error)) error {
	cs, err := c.cids()
	if err != nil {
		return err
	}
	yes, err := question(c.r.Context(), cs...)
	if err != nil {
		return err
	}
	answer := make([]byte, len(yes))
	for i := range yes {
		if yes[i] {
			answer[i] = 1
		}
	}
	return c.bytes(typeBytes, answer)
}

// cids reads a body that is a list of CIDs.
func (c *call) cids() ([]cid.Cid, error) {
	if size := c.r.ContentLength; size > maxCIDBytes {
		return nil, fmt.Errorf("list of %d bytes, at most %d are accepted: %w", size, maxCIDBytes, ErrTooLarge)
	}
	return newFrameReader(c.r.Body, c.r.ContentLength).cids()
}

func (s *Server) sync(c *call) error {
	if err := c.within(); err != nil {
		return err
	}
	if err := s.host.Blocks.Sync(c.r.Context()); err != nil {
		return err
	}
	return c.done()
}

func (s *Server) version(c *call) error {
	return c.json(http.StatusOK, versionJSON{API: Version, Version: s.o.Version})
}

// flag reads a yes-or-no parameter of the query.
func (c *call) flag(name string) (bool, error) {
	q := c.r.URL.Query()
	if !q.Has(name) {
		return false, nil
	}
	yes, err := strconv.ParseBool(q.Get(name))
	if err != nil {
		return false, fmt.Errorf("parameter %s is neither true nor false: %w", name, ErrRequest)
	}
	return yes, nil
}
