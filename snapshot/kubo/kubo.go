// Package kubo keeps blocks in a Kubo daemon, over its RPC.
//
// Start with [New] and [Blocks]. What is imported goes through a [Session], so that the daemon's own collection
// takes nothing of it away; [Blocks.Keep] then pins the commit.
//
// Blocks are sent as CAR files, many at a time, and got the same way, several requests in flight. Every byte
// that comes back is checked against its CID. A request that makes no progress for a while ends with an error, and so
// does one whose answer has no end; every error names the endpoint.
//
// What Put returned from is in the daemon's datastore, and survives the end of this process and of the daemon. Kubo
// has no request that makes it survive a power cut: its usual datastore does not sync (flatfs with "sync": false),
// and repo/... has no such command. Sync therefore syncs the file system of the repository of a daemon on this machine
// (Options.Near or Options.Repo); of another the datastore's own settings decide.
//
// Another client of the daemon may see some blocks of one call of Put before others.
package kubo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/kubo/client/rpc"

	"github.com/volary/volary/snapshot"
)

// ErrDenied says that the daemon, or what is before it, does not accept the credentials.
var ErrDenied = errors.New("access denied")

const (
	// DefaultTimeout is how long a request may make no progress.
	DefaultTimeout = time.Minute
	// DefaultLockTimeout is that for requests that pin: while a daemon collects, it lets them wait.
	DefaultLockTimeout = 15 * time.Minute
	// DefaultFetchTimeout is how long a daemon may look for a block it does not have.
	DefaultFetchTimeout = 30 * time.Second
	// DefaultInFlight is how many requests that carry blocks are under way at a time, in either direction.
	DefaultInFlight = 4
)

// Options say where the daemon is.
type Options struct {
	// Endpoint of the RPC: a URL (http, https, unix) or a multiaddr, such as http://127.0.0.1:5001,
	// /ip4/127.0.0.1/tcp/5001, /dns4/kubo/tcp/443/https or /unix/run/ipfs.sock.
	Endpoint string
	// Token authorises as a bearer; User and Password, which may also be in a URL, do as RFC 7617 says.
	Token, User, Password string
	TLS                   *tls.Config // for https; nil: the system's certificates

	Host    string // whose the pins are: a peer ID
	Near    bool   // the daemon may be on this machine: Sync asks where its repository is, if Repo does not say
	Repo    string // directory of the daemon's repository, which is on this machine
	Offline bool   // the daemon does not ask its peers for what it lacks

	Timeout      time.Duration // DefaultTimeout if zero
	LockTimeout  time.Duration // DefaultLockTimeout if zero
	FetchTimeout time.Duration // DefaultFetchTimeout if zero
	InFlight     int           // DefaultInFlight if zero

	Logger *slog.Logger // is told what is waited for; nil: nobody
}

// Blocks are a daemon's blocks. All methods are safe for concurrent use.
type Blocks struct {
	o         Options
	endpoint  string // as errors name it, without credentials
	api       *rpc.HttpApi
	transport *http.Transport
	uploads   chan struct{}
	size      atomic.Int64 // of a usual block that was got lately
	linked    atomic.Int64 // sessions with something in MFS
	hinted    atomic.Int64 // when it was last told what is waited for, in nanoseconds

	mu   sync.Mutex
	puts map[string]*arriving // by multihash

	repoMu sync.Mutex
	repo   *string // once it is known: Options.Repo or what the daemon said; empty: not on this machine
}

var (
	_ snapshot.Blocks     = (*Blocks)(nil)
	_ snapshot.ManyGetter = (*Blocks)(nil)
)

// New makes a client; nothing is asked of the daemon yet. Close it when done.
func New(o Options) (*Blocks, error) {
	o.Timeout = defaulted(o.Timeout, DefaultTimeout)
	o.LockTimeout = defaulted(o.LockTimeout, DefaultLockTimeout)
	o.FetchTimeout = defaulted(o.FetchTimeout, DefaultFetchTimeout)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.InFlight <= 0 {
		o.InFlight = DefaultInFlight
	}
	e, err := parseEndpoint(o)
	if err != nil {
		return nil, err
	}
	b := &Blocks{
		o: o, endpoint: e.name, transport: e.transport(o.TLS),
		uploads: make(chan struct{}, o.InFlight), puts: map[string]*arriving{},
	}
	b.size.Store(usualSize)
	client := &http.Client{Transport: &roundTripper{
		base: b.transport, authorization: e.authorization, timeout: o.Timeout, hint: b.waiting,
	}}
	if b.api, err = rpc.NewURLApiWithClient(e.url, client); err != nil {
		return nil, b.fault("connect", err)
	}
	return b, nil
}

func defaulted(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Close closes idle connections.
func (b *Blocks) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Endpoint is where the daemon is, as errors name it.
func (b *Blocks) Endpoint() string { return b.endpoint }

// waiting tells that a request makes no progress; of several at a time, one is told of.
func (b *Blocks) waiting(request string, waited time.Duration) {
	last, now := b.hinted.Load(), time.Now().UnixNano()
	if last != 0 && now-last < int64(hintAfter) || !b.hinted.CompareAndSwap(last, now) {
		return
	}
	b.o.Logger.Warn("waiting for kubo, which may be collecting garbage or out of reach",
		"endpoint", b.endpoint, "request", request, "for", waited.Round(time.Second))
}

// Info is what a daemon says of itself.
type Info struct {
	Version string
}

// Info asks the daemon what it is: the cheapest way to find out whether it answers.
func (b *Blocks) Info(ctx context.Context) (Info, error) {
	var version struct{ Version string }
	if err := b.api.Request("version").Exec(ctx, &version); err != nil {
		return Info{}, b.fault("ask for the version", err)
	}
	return Info{Version: version.Version}, nil
}

// fault says what failed, at which endpoint, in the contract's terms.
func (b *Blocks) fault(what string, err error) error {
	return fmt.Errorf("%s: kubo at %s: %w", what, b.endpoint, translate(err))
}
