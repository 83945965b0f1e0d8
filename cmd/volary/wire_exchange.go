package main

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/p2p"
	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/p2p/gateway"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume/api"
)

// far is where blocks are got from that are not on this host: other hosts of the namespace while a daemon is in the
// network, and gateways. It must be made by newFar.
type far struct {
	gateways *gateway.Gateways // nil: none

	mu    sync.Mutex
	peers *exchange.Exchange // nil while there is none
}

var _ exchange.Source = (*far)(nil)

func newFar(c config, log *slog.Logger) (*far, error) {
	f := &far{}
	if len(c.Gateways) == 0 {
		return f, nil
	}
	var err error
	if f.gateways, err = gateway.New(gateway.Options{URLs: c.Gateways, Logger: log}); err != nil {
		return nil, usageError{err.Error()}
	}
	return f, nil
}

// GetMany implements [exchange.Source].
func (f *far) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return f.source().GetMany(ctx, cs...)
}

func (f *far) source() exchange.Source {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.peers != nil:
		return f.peers // who have the gateways behind them
	case f.gateways != nil:
		return f.gateways
	default:
		return exchange.None{}
	}
}

// behind is who is asked for what no peer has.
func (f *far) behind() exchange.Source {
	if f.gateways == nil {
		return nil
	}
	return f.gateways
}

// set says who the peers are asked by; nil: nobody.
func (f *far) set(peers *exchange.Exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers = peers
}

// state is what is told of the peers that are asked; nil if none are.
func (f *far) state() *api.ExchangeState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peers == nil {
		return nil
	}
	st := f.peers.Stats()
	return &api.ExchangeState{Peers: st.Peers, Blocks: st.Blocks, Bytes: st.Bytes, Wrong: st.Wrong, Failures: st.Failures}
}

// exchanging serves what this host has to those in the network, and has blocks got from them, until the function it
// returns is called. One with a Kubo daemon has that get them.
func (h *home) exchanging(ctx context.Context, host *p2p.Host, log *slog.Logger) (stop func() error, _ error) {
	wait, err := time.ParseDuration(h.config.FetchTimeout)
	if err != nil {
		return nil, err
	}
	x, err := exchange.New(ctx, host.Libp2p(), h.served(), exchange.Options{Timeout: wait, Behind: h.far.behind(), Lanes: host, Logger: log})
	if err != nil {
		return nil, err
	}
	h.far.set(x)
	return func() error {
		h.far.set(nil)
		return x.Close()
	}, nil
}

// served is what other hosts get from this one: what is in its store, or in its Kubo daemon.
func (h *home) served() snapshot.Blocks {
	if h.remote.kept != nil {
		return h.remote.kept
	}
	return h.store
}

// farSession is a session of a store that gets from elsewhere what is not there.
type farSession struct {
	session
	far *exchange.Blocks
}

func (s farSession) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return s.far.Get(ctx, c)
}

func (s farSession) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	return s.far.GetInto(ctx, c, buf)
}

func (s farSession) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return s.far.GetMany(ctx, cs...)
}

func (s farSession) Far(ctx context.Context, cs ...cid.Cid) bool { return s.far.Far(ctx, cs...) }

// Local implements [snapshot.Layered].
func (s farSession) Local() snapshot.Blocks { return s.far.Local() }

var (
	_ snapshot.ManyGetter = farSession{}
	_ snapshot.Layered    = farSession{}
)
