// Package trustless serves blocks over HTTP as a trustless gateway does.
//
// Start with [Handler]. It answers the Trustless Gateway Specification: GET and HEAD of /ipfs/CID as a raw block or as a
// CAR of a DAG or a part of it, and of /ipns/NAME as an IPNS record, which whoever asks can check. Files as files are
// refused, and so is what would have to be resolved or got from elsewhere.
package trustless

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/gateway"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/volary/volary/snapshot"
)

const (
	// requests is how many are answered at a time; more are told to come again.
	requests = 64
	// longest is how long an answer may take.
	longest = time.Hour
	// stall is how long one may make no progress.
	stall = 30 * time.Second
)

// Handler answers requests with what is in b, which does not fetch, and records; nil: there are none.
func Handler(b snapshot.Blocks, records Records) (http.Handler, error) {
	store := blockStore{b}
	backend, err := gateway.NewBlocksBackend(blockservice.New(store, offline.Exchange(store)))
	if err != nil {
		return nil, err
	}
	h := gateway.NewHandler(gateway.Config{
		NoDNSLink: true, DisableHTMLErrors: true,
		RetrievalTimeout: stall, MaxConcurrentRequests: requests, MaxRequestDuration: longest,
		MetricsRegistry: prometheus.NewRegistry(),
	}, backend)
	mux := http.NewServeMux()
	mux.Handle("/ipfs/", h)
	if records != nil {
		mux.HandleFunc("/ipns/{name}", records.serve)
	}
	return mux, nil
}

// blockStore is blocks as boxo wants them. Nothing is written through it.
type blockStore struct{ b snapshot.Blocks }

var (
	_ blockstore.Blockstore = blockStore{}

	errOnlyRead = errors.New("blocks are only read by the gateway")
)

func (s blockStore) Has(ctx context.Context, c cid.Cid) (bool, error) {
	has, err := s.b.Has(ctx, c)
	return err == nil && has[0], err
}

func (s blockStore) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	has, err := s.Has(ctx, c)
	if err != nil {
		return nil, err
	}
	if !has {
		return nil, format.ErrNotFound{Cid: c}
	}
	b, err := s.b.Get(ctx, c)
	if errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrUnavailable) {
		return nil, format.ErrNotFound{Cid: c}
	}
	return b, err
}

func (s blockStore) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	b, err := s.Get(ctx, c)
	if err != nil {
		return 0, err
	}
	return len(b.RawData()), nil
}

func (s blockStore) Put(context.Context, blocks.Block) error       { return errOnlyRead }
func (s blockStore) PutMany(context.Context, []blocks.Block) error { return errOnlyRead }
func (s blockStore) DeleteBlock(context.Context, cid.Cid) error    { return errOnlyRead }

func (s blockStore) AllKeysChan(context.Context) (<-chan cid.Cid, error) { return nil, errOnlyRead }
