package exchange

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockstore"
	boxo "github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/volary/volary/snapshot"
)

// What of boxo's bitswap is not at its default.
const (
	// Of blocks of 1 MiB, the default of 1 MiB lets one be under way at a time.
	swapOutstanding = 16 << 20
	swapReaders     = 8 // the embedded store needs no more
	swapSearch      = 200 * time.Millisecond
	// swapIdle is after what time a session that brings nothing is left.
	swapIdle = 30 * time.Second
)

// swapProtocols are bitswap's, the newest first.
var swapProtocols = []protocol.ID{
	bsnet.ProtocolBitswap, bsnet.ProtocolBitswapOneOne, bsnet.ProtocolBitswapOneZero, bsnet.ProtocolBitswapNoVers,
}

// swap serves by bitswap, and asks those who know nothing else.
type swap struct {
	x   *Exchange
	net network.BitSwapNetwork
	bs  *bitswap.Bitswap

	// Under Exchange.mu: what is looked for, and since when nothing is.
	session boxo.Fetcher
	end     context.CancelFunc
	running int
	idle    time.Time
}

func newSwap(x *Exchange) *swap {
	s := &swap{x: x, net: bsnet.NewFromIpfsHost(x.host)}
	s.bs = bitswap.New(x.ctx, s.net, nil, blockStore{x},
		bitswap.MaxOutstandingBytesPerPeer(swapOutstanding),
		bitswap.EngineBlockstoreWorkerCount(swapReaders),
		bitswap.ProviderSearchDelay(swapSearch),
		bitswap.WithoutDuplicatedBlockStats(),
		bitswap.MaxCidSize(maxCID),
		bitswap.WithPeerBlockRequestFilter(func(p peer.ID, _ cid.Cid) bool { return x.o.allows(p) }),
	)
	return s
}

func (s *swap) close() error {
	err := s.bs.Close()
	for _, p := range swapProtocols {
		s.x.host.RemoveStreamHandler(p)
	}
	return err
}

// swap has bitswap look for what no peer of the own protocol has. It is called with mu held.
func (x *Exchange) swap() {
	var kubos []*remote
	for _, r := range x.peers {
		if r.swaps {
			kubos = append(kubos, r)
		}
	}
	if len(kubos) == 0 {
		return
	}
	s := x.bitswap
	var ws []*want
	for _, w := range x.queue {
		if w.swapped || w.flights > 0 || x.held > x.o.Held && !w.urgent || x.asksOwn(w) {
			continue
		}
		w.swapped, w.since = true, time.Now()
		for _, r := range kubos {
			w.names[r.id.String()] = true
		}
		ws = append(ws, w)
	}
	if len(ws) == 0 {
		if s.end != nil && s.running == 0 && time.Since(s.idle) > swapIdle {
			s.end()
			s.session, s.end = nil, nil
		}
		return
	}
	if s.session == nil {
		ctx, end := context.WithCancel(x.ctx)
		s.session, s.end = s.bs.NewSession(ctx), end
	}
	s.running++
	session := s.session
	x.work.Go(func() { s.bring(session, ws) })
}

// asksOwn reports whether a peer of the own protocol can still be asked.
func (x *Exchange) asksOwn(w *want) bool {
	now := time.Now()
	for _, r := range x.peers {
		if !r.swaps && !w.refuses(r) && !now.Before(r.until) {
			return true
		}
	}
	return false
}

// bring hands out what bitswap finds, as long as somebody wants it.
func (s *swap) bring(session boxo.Fetcher, ws []*want) {
	x := s.x
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	stop := x.whenUnwanted(ws, cancel)
	defer stop()
	wanted := make(map[cid.Cid]*want, len(ws))
	keys := make([]cid.Cid, len(ws))
	for i, w := range ws {
		wanted[w.c], keys[i] = w, w.c
	}
	var keep keeper
	defer func() { keep.flush(x) }()
	found, err := session.GetBlocks(ctx, keys)
	if err == nil {
		for b := range found {
			if w := wanted[b.Cid()]; w != nil && snapshot.CheckHash(b) == nil {
				x.deliver(w, b)
				keep.add(x, b)
			}
		}
	} else {
		x.log.Debug("bitswap", logError, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range ws {
		w.swapped = false // what did not come is looked for again
	}
	if s.running--; s.running == 0 {
		s.idle = time.Now()
	}
}

// blockStore is the blocks of this host as bitswap wants them. Nothing is written through it.
type blockStore struct{ x *Exchange }

var _ blockstore.Blockstore = blockStore{}

// sizer is what blocks have beyond [snapshot.Blocks] if the size of one costs less than its bytes.
type sizer interface {
	Size(ctx context.Context, c cid.Cid) (int, error)
}

var errNotWritten = errors.New("blocks are not written by bitswap")

func (s blockStore) Has(ctx context.Context, c cid.Cid) (bool, error) {
	has, err := s.x.local.Has(ctx, c)
	return err == nil && has[0], err
}

func (s blockStore) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := s.x.localInto(ctx, c, nil)
	if err != nil {
		return nil, absent(c, err)
	}
	return blocks.NewBlockWithCid(data, c)
}

func (s blockStore) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	if z, ok := s.x.local.(sizer); ok {
		n, err := z.Size(ctx, c)
		return n, absent(c, err)
	}
	data, err := s.x.localInto(ctx, c, nil)
	return len(data), absent(c, err)
}

// absent is an error as bitswap knows it.
func absent(c cid.Cid, err error) error {
	if errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrUnavailable) {
		return format.ErrNotFound{Cid: c}
	}
	return err
}

func (s blockStore) Put(context.Context, blocks.Block) error       { return errNotWritten }
func (s blockStore) PutMany(context.Context, []blocks.Block) error { return errNotWritten }
func (s blockStore) DeleteBlock(context.Context, cid.Cid) error    { return errNotWritten }

func (s blockStore) AllKeysChan(context.Context) (<-chan cid.Cid, error) {
	return nil, errors.New("blocks are not listed for bitswap")
}
