// Package exchange brings blocks from other hosts, and serves them the ones of this host.
//
// Start with [New], which makes an [Exchange] over a libp2p host, and [Through], which puts it behind the blocks of
// this host: what is not there is got from peers, checked, and stored. Hosts of Volary ask each other by a protocol of
// their own, [Protocol], in which answers are as long as the stream can carry; Kubo daemons, and whoever else knows
// nothing of that, are asked and served by bitswap. Nobody is searched for: all who are connected may be asked, also
// those who connect while something is waited for.
//
// It guarantees: bytes that do not match their CID are never returned, and who sends such often is asked no more; one who says
// nothing, is slow, or ends in the midst costs some time, and nothing as long as another has the block; the memory that
// peers can make it take is bounded. What nobody delivers is [snapshot.ErrNotFetched], and the error says who was asked.
package exchange

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

const (
	// DefaultTimeout is how long a block is waited for by who sets no deadline.
	DefaultTimeout = 30 * time.Second
	// DefaultStall is how long a peer may be silent while it is asked for something.
	DefaultStall = 10 * time.Second
	// DefaultHedge is how long a block is awaited from one peer before another is asked for it as well.
	DefaultHedge = time.Second
	// DefaultHeld is how many bytes are got before they are asked for.
	DefaultHeld = 32 << 20
)

// Keys of the log.
const (
	logPeer  = "peer"
	logBlock = "block"
	logError = "error"
)

// Options of an Exchange. The zero value is useful.
type Options struct {
	Timeout time.Duration // DefaultTimeout if zero
	Stall   time.Duration // DefaultStall if zero
	Hedge   time.Duration // DefaultHedge if zero
	Held    int           // bytes; DefaultHeld if zero

	Behind Source             // asked for what no peer has; nil: nobody is
	Allow  func(peer.ID) bool // whether a peer is served; nil: all that are connected are
	Lanes  Lanes              // nil: streams carry all
	Logger *slog.Logger       // nil discards
}

func (o *Options) allows(p peer.ID) bool { return o.Allow == nil || o.Allow(p) }

func (o *Options) fill() {
	for _, d := range []struct {
		set       *time.Duration
		otherwise time.Duration
	}{{&o.Timeout, DefaultTimeout}, {&o.Stall, DefaultStall}, {&o.Hedge, DefaultHedge}} {
		if *d.set <= 0 {
			*d.set = d.otherwise
		}
	}
	if o.Held <= 0 {
		o.Held = DefaultHeld
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Stats count what an Exchange did.
type Stats struct {
	Peers           int    // that can be asked now
	Blocks, Bytes   uint64 // that were got
	Wrong, Failures uint64 // answers that were not what was asked for, or did not come
}

// Exchange asks peers for blocks. It must be made by New; all methods are safe for concurrent use.
type Exchange struct {
	host    host.Host
	local   snapshot.Blocks
	o       Options
	log     *slog.Logger
	server  *server
	bitswap *swap

	ctx    context.Context // until Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	events event.Subscription

	gotBlocks, gotBytes, wrong, failures atomic.Uint64

	mu     sync.Mutex
	peers  map[peer.ID]*remote
	banned map[peer.ID]time.Time // until when
	wants  map[cid.Cid]*want
	queue  []*want // of wants, what was wanted first comes first
	held   int     // bytes of blocks that came and nobody took yet
	mean   int     // size of usual blocks
	closed bool
}

// ErrClosed says that an exchange was used after Close.
var ErrClosed = fmt.Errorf("exchange is closed: %w", snapshot.ErrUnavailable)

// New begins to serve what local has to the peers of a host, and to ask them: what comes is put into local, also if who
// asked for it no longer waits. Local never fetches; it stays the caller's to close, as the host does, after the Exchange.
func New(ctx context.Context, h host.Host, local snapshot.Blocks, o Options) (*Exchange, error) {
	o.fill()
	x := &Exchange{
		host: h, local: local, o: o, log: o.Logger,
		peers: map[peer.ID]*remote{}, banned: map[peer.ID]time.Time{}, wants: map[cid.Cid]*want{}, mean: 256 << 10,
	}
	var err error
	x.events, err = h.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return nil, fmt.Errorf("watch peers: %w", err)
	}
	x.ctx, x.cancel = context.WithCancel(context.WithoutCancel(ctx))
	x.server = &server{x: x, ofPeer: map[peer.ID][]*answer{}, refused: map[peer.ID]time.Time{}}
	x.server.buffers.New = func() any {
		b := make([]byte, 0, written+snapshot.MaxBlockSize+headerSize)
		return &b
	}
	x.bitswap = newSwap(x)
	h.SetStreamHandler(Protocol, x.server.handle)
	if o.Lanes != nil {
		o.Lanes.ServeLanes(x.server.serveLane)
	}
	for _, p := range h.Network().Peers() {
		x.look(p)
	}
	x.work.Go(x.watch)
	return x, nil
}

// Close ends what is under way, and waits for it.
func (x *Exchange) Close() error {
	x.mu.Lock()
	again := x.closed
	x.closed = true
	for _, r := range x.peers {
		x.closeUnused(r, true)
	}
	x.mu.Unlock()
	if again {
		return nil
	}
	x.host.RemoveStreamHandler(Protocol)
	x.cancel()
	err := errors.Join(x.events.Close(), x.bitswap.close())
	x.server.close()
	x.work.Wait()
	return err
}

// Stats returns what the exchange did.
func (x *Exchange) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	return Stats{
		Peers: len(x.peers), Blocks: x.gotBlocks.Load(), Bytes: x.gotBytes.Load(),
		Wrong: x.wrong.Load(), Failures: x.failures.Load(),
	}
}

// Get gets a block from a peer, as long as the caller's deadline lets it, or Options.Timeout. The error wraps
// [snapshot.ErrNotFetched] if nobody delivered it by then.
func (x *Exchange) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	for b, err := range x.GetMany(ctx, c) {
		return b, err
	}
	return nil, ctx.Err()
}

// GetMany gets blocks, of which the next ones are under way while one is dealt with, from several peers.
func (x *Exchange) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		var ahead []*wish
		failed := false
		defer func() {
			for _, w := range ahead {
				w.drop()
			}
		}()
		for next := 0; next < len(cs) || len(ahead) > 0; {
			for next < len(cs) && len(ahead) < x.window() {
				ahead = append(ahead, x.wish(cs[next]))
				next++
			}
			b, err := ahead[0].wait(ctx, failed)
			failed = err != nil
			ahead[0].drop()
			ahead = ahead[1:]
			if !yield(b, err) {
				return
			}
		}
	}
}

const (
	// windowLeast and windowMost bound how many blocks are asked for before the first came.
	windowLeast = 16
	windowMost  = 512
)

func (x *Exchange) window() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return min(max(x.o.Held/max(x.mean, 1), windowLeast), windowMost)
}

// askable says whether a CID is one that peers can be asked for.
func askable(c cid.Cid) error {
	switch {
	case !c.Defined():
		return fmt.Errorf("get block: undefined CID: %w", snapshot.ErrFormat)
	case c.ByteLen() > maxCID:
		return fmt.Errorf("get block: CID of %d bytes, more than %d: %w", c.ByteLen(), maxCID, snapshot.ErrFormat)
	case c.Prefix().MhType == mh.IDENTITY:
		return fmt.Errorf("get block %s: it is in its CID: %w", c, snapshot.ErrFormat)
	}
	// Of a hash that cannot be checked nothing is asked: nobody could send what would be taken.
	none, err := blocks.NewBlockWithCid(nil, c)
	if err == nil {
		err = snapshot.CheckHash(none)
	}
	if errors.Is(err, snapshot.ErrFormat) {
		return fmt.Errorf("get block: %w", err)
	}
	return nil
}
