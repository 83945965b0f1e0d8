package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/volary/volary/p2p"
	"github.com/volary/volary/volume/api"
)

// networked reports whether the settings ask for a network of the namespace's hosts.
func (c config) networked() bool { return len(c.Listen) > 0 || len(c.Peers) > 0 }

// fetches reports whether there is somebody to get blocks from that are not here, with blocks in the state directory.
func (c config) fetches() bool { return c.networked() || len(c.Gateways) > 0 }

// addresses reads where a host listens and whom it connects to.
func (c config) addresses(private bool) (listen []ma.Multiaddr, peers []peer.AddrInfo, _ error) {
	for _, text := range c.Listen {
		addrs, err := p2p.ParseListen(text, private)
		if err != nil {
			return nil, nil, fmt.Errorf("listen %w", err)
		}
		listen = append(listen, addrs...)
	}
	for _, text := range c.Peers {
		p, err := p2p.ParsePeer(text, private)
		if err != nil {
			return nil, nil, fmt.Errorf("peers %w", err)
		}
		peers = append(peers, p)
	}
	return listen, peers, nil
}

// networkOptions are what the settings say of the network.
func (h *home) networkOptions(log *slog.Logger) (p2p.Options, error) {
	o := p2p.Options{Version: version(), Known: h.path("peers"), Logger: log}
	ns, swarm, err := h.namespace()
	if err != nil {
		return o, err
	}
	key, private, err := ns.SwarmKey(swarm)
	if err != nil {
		return o, err
	}
	if private {
		o.SwarmKey = &key
	}
	if o.Listen, o.Peers, err = h.config.addresses(private); err != nil {
		return o, usagef("%s: %v", h.path("config.toml"), err)
	}
	o.Identity, err = h.identityKey()
	return o, err
}

const (
	upAgain  = 5 * time.Second // after the network could not be begun
	upAtMost = time.Minute
)

// network is this host in the network of its namespace, or on the way there. It must be made by startNetwork.
type network struct {
	cancel context.CancelFunc
	done   chan struct{}
	log    *slog.Logger
	far    *far

	configured int

	mu   sync.Mutex
	host *p2p.Host // nil while there is none
	err  error     // why
}

var _ api.Network = (*network)(nil)

// use is what a host does in the network, until the function it returns is called.
type use func(context.Context, *p2p.Host) (end func() error, _ error)

// startNetwork has a host join the network in the background, if its settings ask for that: nothing waits for it.
func (h *home) startNetwork(ctx context.Context, log *slog.Logger, uses ...use) (*network, error) {
	if !h.config.networked() {
		return nil, nil
	}
	o, err := h.networkOptions(log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	n := &network{cancel: cancel, done: make(chan struct{}), log: log, far: h.far, configured: len(o.Peers)}
	go func() {
		defer close(n.done)
		n.run(ctx, o, uses)
	}()
	return n, nil
}

// run begins the network, again and again if an address is not there yet, and ends it when ctx is done. This host is said
// to be in it once it does there what it is to do.
func (n *network) run(ctx context.Context, o p2p.Options, uses []use) {
	var host *p2p.Host
	for wait := upAgain; ; wait = min(2*wait, upAtMost) {
		var err error
		if host, err = p2p.New(ctx, o); err == nil {
			break
		}
		n.set(nil, err)
		n.log.Warn("the network does not begin, and is tried again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
	ends := []func() error{host.Close}
	for _, begin := range uses {
		end, err := begin(ctx, host)
		if err != nil {
			n.log.Error("not everything is done in the network", "error", err)
			continue
		}
		ends = append(ends, end)
	}
	n.set(host, nil)
	n.log.Info("in the network", "addresses", host.Libp2p().Addrs())
	<-ctx.Done()
	n.set(nil, errEnding)
	for _, end := range slices.Backward(ends) {
		if err := end(); err != nil {
			n.log.Warn("the network does not end in order", "error", err)
		}
	}
}

func (n *network) set(host *p2p.Host, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host, n.err = host, err
}

// close leaves the network. It can be called again.
func (n *network) close() {
	if n == nil {
		return
	}
	n.cancel()
	<-n.done
}

func (n *network) get() (*p2p.Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host, n.err
}

func (n *network) State(context.Context) (api.NetworkState, error) {
	host, err := n.get()
	st := api.NetworkState{Addrs: []string{}, Configured: n.configured, Missing: n.configured}
	if host == nil {
		st.Error = "it is only just beginning"
		if err != nil {
			st.Error = abbreviate(firstLine(err.Error()))
		}
		return st, nil
	}
	addrs, err := host.Addrs()
	if err != nil {
		return st, err
	}
	st.Addrs = texts(addrs)
	st.Configured, st.Missing = 0, 0
	for _, p := range host.Peers() {
		up := !p.Connected.IsZero()
		if up {
			st.Connected++
		}
		if p.Configured {
			st.Configured++
			if !up {
				st.Missing++
			}
		}
	}
	st.InBytes, st.OutBytes = host.Traffic()
	st.Exchange = n.far.state()
	return st, nil
}

func (n *network) Peers(context.Context) ([]api.NetworkPeer, error) {
	host, _ := n.get()
	if host == nil {
		return nil, nil
	}
	var all []api.NetworkPeer
	for _, p := range host.Peers() {
		all = append(all, api.NetworkPeer{
			ID: p.ID.String(), Addrs: texts(p.Addrs), Configured: p.Configured, Connected: !p.Connected.IsZero(), Since: p.Connected,
			Direction: string(p.Direction), Latency: p.Latency, Agent: p.Agent, Error: errorText(p.Err),
		})
	}
	return all, nil
}

func texts(addrs []ma.Multiaddr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

// awayNetwork is the network of a host whose daemon does not run.
type awayNetwork struct{}

var _ api.Network = awayNetwork{}

func (awayNetwork) State(context.Context) (api.NetworkState, error) {
	return api.NetworkState{Addrs: []string{}, Error: api.ErrNoDaemon.Error()}, nil
}

func (awayNetwork) Peers(context.Context) ([]api.NetworkPeer, error) {
	return nil, hinted{fmt.Errorf("the network is the daemon's: %w", api.ErrNoDaemon), "start one, `volary daemon`, and run the command again"}
}

// networkState is what is told of a host's network; nil if it is in none.
func networkState(ctx context.Context, n api.Network) (*api.NetworkState, error) {
	st, err := n.State(ctx)
	if errors.Is(err, api.ErrNoNetwork) {
		return nil, nil
	}
	return &st, err
}
