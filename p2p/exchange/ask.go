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
	brought, lacks, err := x.request(ctx, r, ws)
	if err != nil && ctx.Err() == nil && !errors.Is(err, snapshot.ErrDamaged) {
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
	for _, w := range lacks {
		w.asked[r] = true
	}
	if brought > 0 {
		r.barren, r.failures = time.Time{}, 0
	} else if ctx.Err() == nil {
		r.barren = time.Now().Add(barrenTime)
	}
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

// request returns how many blocks a peer brought, and which wants it lacks. Those that its answer did not speak of it
// can be asked for again.
func (x *Exchange) request(ctx context.Context, r *remote, ws []*want) (brought int, lacks []*want, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("blocks of peer %s: %w", r.id, err)
		}
	}()
	opening, done := context.WithTimeout(ctx, x.o.Stall)
	defer done()
	stream, err := x.host.NewStream(network.WithNoDial(opening, "exchange"), r.id, Protocol)
	if err != nil {
		return 0, nil, err
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
	cs := make([]cid.Cid, len(ws))
	for i, w := range ws {
		cs[i] = w.c
	}
	if err := stream.SetDeadline(time.Now().Add(x.o.Stall)); err != nil {
		return 0, nil, err
	}
	if _, err := stream.Write(encodeRequest(cs)); err != nil {
		return 0, nil, err
	}
	if err := stream.CloseWrite(); err != nil {
		return 0, nil, err
	}
	var keep keeper
	defer func() { keep.flush(x) }()
	for i, total := 0, 0; i < len(ws); i++ {
		b, err := x.readBlock(stream, cs[i])
		switch {
		case err == io.EOF && i > 0:
			return brought, lacks, nil
		case err == io.EOF:
			return 0, nil, io.ErrUnexpectedEOF
		case errors.Is(err, snapshot.ErrDamaged):
			x.wrong.Add(1)
			x.log.Warn("peer sent wrong bytes", logPeer, r.id, logError, err)
			x.lied(r, ws[i])
			return brought, lacks, err
		case err != nil:
			return brought, lacks, err
		case b == nil:
			lacks = append(lacks, ws[i])
			continue
		}
		if total += len(b.RawData()); total > maxAnswer {
			return brought, lacks, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		brought++
		x.deliver(ws[i], b)
		keep.add(x, b)
	}
	return brought, lacks, nil
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
func (x *Exchange) readBlock(stream network.Stream, c cid.Cid) (blocks.Block, error) {
	if err := stream.SetReadDeadline(time.Now().Add(x.o.Stall)); err != nil {
		return nil, err
	}
	size, there, err := readHeader(stream)
	if err != nil || !there {
		return nil, err
	}
	data := make([]byte, size)
	for at := 0; at < size; {
		if err := stream.SetReadDeadline(time.Now().Add(x.o.Stall)); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(stream, data[at:min(at+piece, size)])
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
