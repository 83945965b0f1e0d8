package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/volary/volary/snapshot"
)

// piece is how many bytes of a block a peer must send within Options.Stall.
const piece = 256 << 10

// dispatch asks peers for what is wanted and nobody brings yet. It is called with mu held.
func (x *Exchange) dispatch() {
	if x.closed || len(x.queue) == 0 {
		return
	}
	for {
		asked := false
		for _, r := range x.candidates() {
			if ws := x.take(r); len(ws) > 0 {
				x.work.Go(func() { x.ask(r, ws) })
				asked = true
				break // who has the fewest requests is another one now
			}
		}
		if !asked {
			break
		}
	}
	x.swap()
	x.askBehind()
}

// take chooses what a peer is asked for next. It is called with mu held.
func (x *Exchange) take(r *remote) []*want {
	most := min(max(enough/2/max(x.mean, 1), 1), maxAsked)
	now := time.Now()
	var ws []*want
	for _, w := range x.queue {
		if len(ws) == most {
			break
		}
		switch {
		case w.refuses(r):
		case x.held > x.o.Held && !w.urgent:
		case w.flights > 1, w.flights == 1 && (w.last == r || now.Sub(w.since) < x.o.Hedge):
		case r.barren.After(now) && x.asksFirst(w):
		default:
			ws = append(ws, w)
		}
	}
	if len(ws) == 0 {
		return nil
	}
	for _, w := range ws {
		w.flights++
		w.last, w.since = r, now
		w.names[r.id.String()] = true
	}
	r.flights++
	return ws
}

// ask has a peer answer a request, and hands out what comes.
func (x *Exchange) ask(r *remote, ws []*want) {
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	stop := x.whenUnwanted(ws, cancel)
	defer stop()
	got, err := x.request(ctx, r, ws)
	otherwise := errors.Is(err, errLane) // it can be asked again, over a stream
	if err != nil && ctx.Err() == nil && !errors.Is(err, snapshot.ErrDamaged) && !otherwise {
		x.failures.Add(1)
		x.log.Debug("peer did not answer", logPeer, r.id, logError, err)
		x.failed(r)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	r.flights--
	for _, w := range ws {
		w.flights--
	}
	for _, w := range got.lacks {
		w.asked[r] = true
	}
	if got.blocks > 0 {
		r.barren, r.failures = time.Time{}, 0
	} else if ctx.Err() == nil && !otherwise {
		r.barren = time.Now().Add(barrenTime)
	}
	r.came += got.bytes
	x.openLanes(r)
	x.dispatch()
}

// whenUnwanted calls cancel once nobody wants any of ws. The function it returns ends that.
func (x *Exchange) whenUnwanted(ws []*want, cancel func()) (stop func()) {
	ended := make(chan struct{})
	x.work.Go(func() {
		for _, w := range ws {
			select {
			case <-w.gone:
			case <-ended:
				return
			}
		}
		cancel()
	})
	return func() { close(ended) }
}

// received is what an answer had.
type received struct {
	blocks, bytes int
	lacks         []*want // what the peer said that it lacks; what it did not speak of can be asked for again
}

// request asks a peer, over a lane if there is one.
func (x *Exchange) request(ctx context.Context, r *remote, ws []*want) (got received, err error) {
	if conn := x.takeLane(r); conn != nil {
		got, err = x.overLane(ctx, conn, r, ws)
	} else {
		got, err = x.overStream(ctx, r, ws)
	}
	if err != nil {
		err = fmt.Errorf("blocks of peer %s: %w", r.id, err)
	}
	return got, err
}

func (x *Exchange) overStream(ctx context.Context, r *remote, ws []*want) (got received, err error) {
	opening, done := context.WithTimeout(ctx, x.o.Stall)
	defer done()
	stream, err := x.host.NewStream(network.WithNoDial(opening, "exchange"), r.id, Protocol)
	if err != nil {
		return got, err
	}
	defer func() {
		if err != nil {
			stream.Reset()
		} else {
			stream.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	defer stop()
	if err := stream.SetDeadline(time.Now().Add(x.o.Stall)); err != nil {
		return got, err
	}
	if _, err := stream.Write(encodeRequest(cidsOf(ws))); err != nil {
		return got, err
	}
	if err := stream.CloseWrite(); err != nil {
		return got, err
	}
	got, err = x.receive(stream, r, ws)
	if err == io.EOF {
		if len(got.lacks)+got.blocks == 0 {
			return got, io.ErrUnexpectedEOF
		}
		err = nil
	}
	return got, err
}

// source is what an answer is read from.
type source interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// receive hands out the answer to a request. The error is that of its end, io.EOF or errEnd, if that comes before
// everything was spoken of.
func (x *Exchange) receive(from source, r *remote, ws []*want) (got received, err error) {
	var keep keeper
	defer func() { keep.flush(x) }()
	for _, w := range ws {
		b, err := x.readBlock(from, w.c)
		switch {
		case errors.Is(err, snapshot.ErrDamaged):
			x.wrong.Add(1)
			x.log.Warn("peer sent wrong bytes", logPeer, r.id, logError, err)
			x.lied(r, w)
			return got, err
		case err != nil:
			return got, err
		case b == nil:
			got.lacks = append(got.lacks, w)
			continue
		}
		if got.bytes += len(b.RawData()); got.bytes > maxAnswer {
			return got, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		got.blocks++
		x.deliver(w, b)
		keep.add(x, b)
	}
	return got, nil
}

// keeper stores blocks, some at a time.
type keeper struct {
	bs   []blocks.Block
	size int
}

// keepBytes are worth a write.
const keepBytes = 512 << 10

func (k *keeper) add(x *Exchange, b blocks.Block) {
	k.bs, k.size = append(k.bs, b), k.size+len(b.RawData())
	if k.size >= keepBytes {
		k.flush(x)
	}
}

// flush stores what was added. That it cannot be is for those to tell who write: who reads gets the blocks.
func (k *keeper) flush(x *Exchange) {
	if len(k.bs) == 0 {
		return
	}
	if err := x.local.Put(x.ctx, k.bs...); err != nil && x.ctx.Err() == nil {
		x.log.Debug("what was fetched cannot be kept", logError, err)
	}
	k.bs, k.size = nil, 0
}

// readBlock reads the answer for one CID; nil if the peer lacks the block.
func (x *Exchange) readBlock(from source, c cid.Cid) (blocks.Block, error) {
	if err := from.SetReadDeadline(time.Now().Add(x.o.Stall)); err != nil {
		return nil, err
	}
	size, there, err := readHeader(from)
	if err != nil || !there {
		return nil, err
	}
	data := make([]byte, size)
	for at := 0; at < size; {
		if err := from.SetReadDeadline(time.Now().Add(x.o.Stall)); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(from, data[at:min(at+piece, size)])
		at += n
		if err != nil {
			return nil, noEOF(err)
		}
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return nil, err
	}
	return b, snapshot.CheckHash(b)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
