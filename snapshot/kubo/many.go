package kubo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

const (
	// manyBytes is how much one request should bring, and mostBytes what it may.
	manyBytes = 2 << 20
	mostBytes = 8 << 20
	// manyBlocks bounds the blocks of a request: the daemon opens all before it sends the first.
	manyBlocks = 128
	// usualSize is what a block is taken to have before any was seen.
	usualSize = 32 << 10
	// markSize is the size of what is between two blocks; the daemon refuses identity CIDs of more than 128 bytes.
	markSize = 32
)

// result is what came of getting a block.
type result struct {
	block blocks.Block
	err   error
}

// GetMany implements [snapshot.ManyGetter]: a request brings many blocks, and the next ones are under way.
func (b *Blocks) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var ahead []chan []result
		defer func() {
			cancel()
			for _, c := range ahead {
				<-c
			}
		}()
		for rest := cs; len(rest) > 0 || len(ahead) > 0; {
			for len(rest) > 0 && len(ahead) < b.o.InFlight {
				n := min(len(rest), b.together())
				batch, got := rest[:n], make(chan []result, 1)
				rest, ahead = rest[n:], append(ahead, got)
				go func() { got <- b.getSome(ctx, batch) }()
			}
			got := <-ahead[0]
			ahead = ahead[1:]
			for _, g := range got {
				if !yield(g.block, g.err) {
					return
				}
			}
		}
	}
}

// together is how many blocks to ask for in one request.
func (b *Blocks) together() int {
	return int(min(manyBlocks, max(1, manyBytes/max(1, b.size.Load()))))
}

// getSome gets each of cs. What does not come with the others is got by itself.
func (b *Blocks) getSome(ctx context.Context, cs []cid.Cid) []result {
	got := make([]result, 0, len(cs))
	for len(got) < len(cs) {
		if rest := cs[len(got):]; len(rest) > 1 {
			got = append(got, b.getTogether(ctx, rest)...)
		}
		if len(got) < len(cs) {
			blk, err := b.Get(ctx, cs[len(got)])
			got = append(got, result{blk, err})
		}
	}
	return got
}

// getTogether gets the first of cs, as many as come whole. There is no request for many blocks, but one for the
// concatenated content of many files, which any block is under its bare name. Between two of them it is asked for a
// mark, random bytes that are their own name.
func (b *Blocks) getTogether(ctx context.Context, cs []cid.Cid) []result {
	mark := make([]byte, markSize)
	rand.Read(mark) // never fails
	digest, err := mh.Encode(mark, mh.IDENTITY)
	if err != nil {
		return nil
	}
	name := cid.NewCidV1(cid.Raw, digest).String()
	var list bytes.Buffer
	for _, c := range cs {
		if !c.Defined() || c.Prefix().MhType == mh.IDENTITY {
			return nil // nothing a daemon is asked for; getSome goes on after it
		}
		fmt.Fprintf(&list, "%s\n%s\n", bare(c), name)
	}
	args := newForm(func(w io.Writer) error { _, err := w.Write(list.Bytes()); return err })
	defer args.wait()
	res, err := b.api.Request("cat").Option("offline", true).Option("progress", false).
		Header("Content-Type", args.contentType()).Body(args).Send(ctx)
	if err != nil || res.Error != nil {
		return nil
	}
	defer res.Cancel()
	return b.readMarked(res.Output, cs, mark)
}

// readMarked reads blocks with a mark after each, until one is not right.
func (b *Blocks) readMarked(r io.Reader, cs []cid.Cid, mark []byte) []result {
	in := bufio.NewReaderSize(r, pieceSize)
	var got []result
	total := 0
	for _, c := range cs {
		if total > mostBytes {
			break
		}
		data, err := readUntil(in, mark, snapshot.MaxBlockSize)
		if err != nil {
			break
		}
		blk, err := b.checked(data, c)
		if err != nil {
			break
		}
		total += len(data)
		got = append(got, result{block: blk})
	}
	if len(got) > 0 {
		b.saw(total / len(got))
	}
	return got
}

var errTooLong = errors.New("more bytes than a block has")

// readUntil reads up to a mark, at most limit bytes, and drops the mark.
func readUntil(in *bufio.Reader, mark []byte, limit int) ([]byte, error) {
	var data []byte
	for {
		if _, err := in.Peek(1); err != nil {
			return nil, err
		}
		p, err := in.Peek(in.Buffered())
		if err != nil {
			return nil, err
		}
		from := max(0, len(data)-len(mark)+1)
		data = append(data, p...)
		if at := bytes.Index(data[from:], mark); at >= 0 {
			end := from + at
			_, err := in.Discard(len(p) - (len(data) - end - len(mark)))
			return data[:end:end], err
		}
		if _, err := in.Discard(len(p)); err != nil {
			return nil, err
		}
		if len(data) > limit+len(mark) {
			return nil, errTooLong
		}
	}
}
