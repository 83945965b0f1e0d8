// Package gateway gets blocks from trustless HTTP gateways.
//
// Start with [New]. A gateway is asked for raw blocks (the Trustless Gateway Specification's ?format=raw), one request
// each, several at a time; [Gateways.DAG] asks for all of a DAG at once, as a CAR. Nothing it says is believed: bytes that do not match their CID are never returned, no answer
// is read beyond the size of a block, and a gateway that does not answer, or not with what it was asked for, rests while
// the next one is asked. What none has is [snapshot.ErrNotFetched], and the error says what each of them said.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const (
	// DefaultTimeout is how long one gateway may take for one block.
	DefaultTimeout = 15 * time.Second
	// DefaultInFlight is how many requests are under way at a time.
	DefaultInFlight = 16

	// restLeast and restMost bound how long a gateway is not asked that failed.
	restLeast = time.Second
	restMost  = time.Minute
	redirects = 3
	rawType   = "application/vnd.ipld.raw"
)

// Keys of the log.
const (
	logGateway = "gateway"
	logError   = "error"
)

// Options of Gateways. All but URLs may be zero.
type Options struct {
	URLs      []string          // such as http://127.0.0.1:8080: what /ipfs/CID is appended to; asked in this order
	Timeout   time.Duration     // DefaultTimeout if zero
	InFlight  int               // DefaultInFlight if zero
	Transport http.RoundTripper // nil: one of its own
	Logger    *slog.Logger      // nil discards
}

// Gateways are where blocks are got from. They must be made by New; all methods are safe for concurrent use.
type Gateways struct {
	o      Options
	client *http.Client
	slots  chan struct{}
	all    []*gateway
}

var _ snapshot.ManyGetter = (*Gateways)(nil)

type gateway struct {
	base string // without a slash at its end
	name string // as errors and logs say it: without credentials

	mu       sync.Mutex
	failures int
	until    time.Time
}

// New checks the addresses; nothing is asked of them yet.
func New(o Options) (*Gateways, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.InFlight <= 0 {
		o.InFlight = DefaultInFlight
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.MaxIdleConnsPerHost = o.InFlight
		o.Transport = own
	}
	g := &Gateways{o: o, slots: make(chan struct{}, o.InFlight)}
	g.client = &http.Client{Transport: o.Transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > redirects {
			return fmt.Errorf("more than %d redirects", redirects)
		}
		return nil
	}}
	for _, text := range o.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("gateway %q is no URL such as http://127.0.0.1:8080", text)
		}
		g.all = append(g.all, &gateway{base: strings.TrimRight(u.String(), "/"), name: strings.TrimRight(u.Redacted(), "/")})
	}
	return g, nil
}

// Close closes idle connections.
func (g *Gateways) Close() error {
	g.client.CloseIdleConnections()
	return nil
}

// Get gets a block. Its bytes match its CID.
func (g *Gateways) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.Defined() {
		return nil, fmt.Errorf("get block: undefined CID: %w", snapshot.ErrFormat)
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var said []error
	for _, resting := range []bool{false, true} {
		for _, gw := range g.all {
			if gw.rests() != resting {
				continue
			}
			blk, err := g.from(ctx, gw, c)
			if err == nil {
				return blk, nil
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("get block %s: %w", c, ctx.Err())
			}
			said = append(said, fmt.Errorf("%s: %w", gw.name, err))
		}
		if len(said) > 0 {
			break // who rests is asked only if nobody else can be
		}
	}
	if len(said) == 0 {
		said = append(said, errors.New("there is no gateway"))
	}
	return nil, &notFetched{"block " + c.String(), said}
}

// notFetched is an [snapshot.ErrNotFetched] that says what each gateway said, and is none of it.
type notFetched struct {
	what string
	said []error
}

func (e *notFetched) Error() string {
	texts := make([]string, len(e.said))
	for i, err := range e.said {
		texts[i] = err.Error()
	}
	return fmt.Sprintf("get %s: %v: %s", e.what, snapshot.ErrNotFetched, strings.Join(texts, "; "))
}

func (e *notFetched) Unwrap() error { return snapshot.ErrNotFetched }

// GetMany implements [snapshot.ManyGetter].
func (g *Gateways) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		type result struct {
			blk blocks.Block
			err error
		}
		var ahead []chan result
		for next := 0; next < len(cs) || len(ahead) > 0; {
			for next < len(cs) && len(ahead) < g.o.InFlight {
				c, got := cs[next], make(chan result, 1)
				next++
				ahead = append(ahead, got)
				work.Go(func() {
					blk, err := g.Get(ctx, c)
					got <- result{blk, err}
				})
			}
			r := <-ahead[0]
			ahead = ahead[1:]
			if !yield(r.blk, r.err) {
				return
			}
		}
	}
}

// from gets a block from one gateway, and notes whether that works.
func (g *Gateways) from(ctx context.Context, gw *gateway, c cid.Cid) (blocks.Block, error) {
	ctx, done := context.WithTimeout(ctx, g.o.Timeout)
	defer done()
	data, err := g.fetch(ctx, gw, c)
	if err != nil {
		gw.failed(err)
		return nil, err
	}
	blk, err := blocks.NewBlockWithCid(data, c)
	if err == nil {
		err = snapshot.CheckHash(blk)
	}
	if err != nil {
		g.o.Logger.Warn("gateway sent wrong bytes", logGateway, gw.name, logError, err)
		gw.failed(err)
		return nil, err
	}
	gw.worked()
	return blk, nil
}

// errAbsent says that a gateway answers, and has not got the block.
var errAbsent = errors.New("it is not there")

func (g *Gateways) fetch(ctx context.Context, gw *gateway, c cid.Cid) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gw.base+"/ipfs/"+c.String()+"?format=raw", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", rawType)
	res, err := g.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone:
		return nil, errAbsent
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answered %d %s", res.StatusCode, http.StatusText(res.StatusCode)) // not what it says: that may be anything
	case res.ContentLength > snapshot.MaxBlockSize:
		return nil, fmt.Errorf("a block of %d bytes, more than %d", res.ContentLength, snapshot.MaxBlockSize)
	}
	size := res.ContentLength
	if size < 0 {
		size = 64 << 10
	}
	data, err := readUpTo(res.Body, snapshot.MaxBlockSize, int(size))
	if err != nil {
		return nil, withoutURL(err)
	}
	return data, nil
}

// readUpTo reads to the end, at most so many bytes, of which a number is usual.
func readUpTo(r io.Reader, most, usual int) ([]byte, error) {
	data := make([]byte, 0, usual+1)
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case len(data) > most:
			return nil, fmt.Errorf("more than %d bytes", most)
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// withoutURL is an error of the client's without the address, which the caller names without credentials.
func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// rests reports whether others are to be asked first.
func (gw *gateway) rests() bool {
	gw.mu.Lock()
	defer gw.mu.Unlock()
	return time.Now().Before(gw.until)
}

func (gw *gateway) worked() {
	gw.mu.Lock()
	defer gw.mu.Unlock()
	gw.failures, gw.until = 0, time.Time{}
}

// failed has a gateway rest that does not answer. One that has not got a block answers; one that was not waited for to
// the end is not known to do wrong.
func (gw *gateway) failed(err error) {
	if errors.Is(err, errAbsent) || errors.Is(err, context.Canceled) {
		return
	}
	gw.mu.Lock()
	defer gw.mu.Unlock()
	gw.until = time.Now().Add(min(restLeast<<min(gw.failures, 10), restMost))
	gw.failures++
}
