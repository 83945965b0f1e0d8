package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const (
	// bodyPiece is how much of a body of blocks is written at a time.
	bodyPiece = 128 << 10
	// putBytes and putBlocks bound the blocks of one request.
	putBytes  = 16 << 20
	putBlocks = 1 << 16
)

// remoteBlocks are a server's blocks, under a session or none.
type remoteBlocks struct {
	*client
	session string
	local   bool // blocks are not got from elsewhere
}

var (
	_ snapshot.Blocks  = remoteBlocks{}
	_ snapshot.Layered = remoteBlocks{}
)

// Local implements [snapshot.Layered].
func (b remoteBlocks) Local() snapshot.Blocks {
	b.local = true
	return b
}

func checkCIDs(cs ...cid.Cid) error {
	for _, c := range cs {
		if !c.Defined() {
			return fmt.Errorf("undefined CID: %w", snapshot.ErrFormat)
		}
		if c.ByteLen() > maxCIDSize {
			return fmt.Errorf("CID of %d bytes: %w", c.ByteLen(), snapshot.ErrFormat)
		}
	}
	return nil
}

func (b remoteBlocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := b.GetInto(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// GetInto is Get into the caller's memory: the bytes are in buf if its capacity suffices, else in new memory.
func (b remoteBlocks) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if err := checkCIDs(c); err != nil {
		return nil, err
	}
	res, err := b.do(ctx, request{method: http.MethodGet, path: prefix + "/blocks/" + c.String(), session: b.session, local: b.local})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := b.readBody(ctx, res, buf, snapshot.MaxBlockSize)
	if err != nil {
		return nil, err
	}
	_, err = checked(data, c)
	return data, err
}

func (b remoteBlocks) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	return b.ask(ctx, request{method: http.MethodPost, path: prefix + "/blocks/has", session: b.session}, cs)
}

// ask sends a list of CIDs, in as many parts as need be, and returns the answer to each.
func (c *client) ask(ctx context.Context, q request, cs []cid.Cid) ([]bool, error) {
	if err := checkCIDs(cs...); err != nil {
		return nil, err
	}
	answers := make([]bool, 0, len(cs))
	for len(cs) > 0 {
		var body []byte
		n := 0
		for n < len(cs) && n < maxCIDs && len(body)+maxCIDSize < maxCIDBytes {
			body = appendCID(body, cs[n])
			n++
		}
		cs = cs[n:]
		yes, err := c.read(ctx, q.with(body), n)
		if err != nil {
			return nil, err
		}
		if len(yes) != n {
			return nil, fmt.Errorf("daemon on %s: %d answers to %d questions", c.path, len(yes), n)
		}
		for _, y := range yes {
			answers = append(answers, y == 1)
		}
	}
	return answers, ctx.Err()
}

func (b remoteBlocks) Put(ctx context.Context, bs ...blocks.Block) error {
	for _, blk := range bs {
		if err := checkCIDs(blk.Cid()); err != nil {
			return err
		}
		if size := len(blk.RawData()); size > snapshot.MaxBlockSize {
			return fmt.Errorf("block %s of %d bytes, more than %d: %w", blk.Cid(), size, snapshot.MaxBlockSize, snapshot.ErrFormat)
		}
	}
	for len(bs) > 0 {
		n, size := 0, 0
		for n < len(bs) && n < putBlocks && (n == 0 || size+len(bs[n].RawData()) <= putBytes) {
			size += len(bs[n].RawData())
			n++
		}
		if err := b.putSome(ctx, bs[:n]); err != nil {
			return err
		}
		bs = bs[n:]
	}
	return ctx.Err()
}

func (b remoteBlocks) putSome(ctx context.Context, bs []blocks.Block) error {
	// The transport may still read a body when it has given up the request, but then it closes it: only
	// after that do the bytes belong to the caller again.
	var open sync.WaitGroup
	defer open.Wait()
	body := func() io.ReadCloser {
		open.Add(1)
		return &blockBody{blocks: bs, release: sync.OnceFunc(open.Done)}
	}
	return b.run(ctx, request{method: http.MethodPost, path: prefix + "/blocks", session: b.session, body: body, size: -1})
}

func (b remoteBlocks) Sync(ctx context.Context) error {
	return b.run(ctx, request{method: http.MethodPost, path: prefix + "/sync", session: b.session})
}

// blockBody is a body of blocks.
type blockBody struct {
	blocks  []blocks.Block
	release func()
	rest    []byte // of what Read has begun
}

// WriteTo is what the transport calls: large blocks are not copied on their way.
func (b *blockBody) WriteTo(w io.Writer) (int64, error) {
	counted := &countingWriter{w: w}
	size := 0
	for _, blk := range b.blocks {
		size += maxHeaderSize + len(blk.RawData())
	}
	buf := bufio.NewWriterSize(counted, min(size, bodyPiece))
	var header []byte
	for _, blk := range b.blocks {
		header = appendHeader(header[:0], blk)
		if _, err := buf.Write(header); err != nil {
			return counted.n, err
		}
		if _, err := buf.Write(blk.RawData()); err != nil {
			return counted.n, err
		}
	}
	return counted.n, buf.Flush()
}

func (b *blockBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if len(b.blocks) == 0 {
			return 0, io.EOF
		}
		b.rest = slices.Concat(appendHeader(nil, b.blocks[0]), b.blocks[0].RawData())
		b.blocks = b.blocks[1:]
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *blockBody) Close() error {
	b.release()
	return nil
}

// maxHeaderSize is what a usual block's header takes at most.
const maxHeaderSize = 80

// appendHeader appends what precedes a block's bytes.
func appendHeader(b []byte, blk blocks.Block) []byte {
	return appendUvarint(appendCID(b, blk.Cid()), len(blk.RawData()))
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
