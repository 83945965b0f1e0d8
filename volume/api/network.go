package api

import (
	"context"
	"errors"
	"time"
)

// ErrNoNetwork says that the host is in no network of its namespace's hosts.
var ErrNoNetwork = errors.New("this host is in no network of its own")

// Network is the network of a namespace's hosts. Of a host that is in none, both methods return an error that wraps
// [ErrNoNetwork].
//
// State is how this host stands in it. Peers are those that are connected and those that are to be, in order of their
// IDs. Neither waits for anybody.
type Network interface {
	State(ctx context.Context) (NetworkState, error)
	Peers(ctx context.Context) ([]NetworkPeer, error)
}

// NetworkState is how a host stands in the network.
type NetworkState struct {
	Addrs      []string `json:"addrs"`      // where others reach it, with its ID; none if it does not listen
	Connected  int      `json:"connected"`  // peers
	Configured int      `json:"configured"` // peers
	Missing    int      `json:"missing"`    // configured peers that are not connected
	InBytes    int64    `json:"in_bytes"`   // that came since the daemon was started
	OutBytes   int64    `json:"out_bytes"`  // that went
	Error      string   `json:"error,omitempty"`

	Exchange *ExchangeState `json:"exchange,omitempty"` // nil if blocks are got otherwise
}

// ExchangeState counts what a host got from others since its daemon was started.
type ExchangeState struct {
	Peers    int    `json:"peers"`    // that can be asked for blocks
	Blocks   uint64 `json:"blocks"`   // that were got
	Bytes    uint64 `json:"bytes"`    // of them
	Wrong    uint64 `json:"wrong"`    // answers that were not what was asked for
	Failures uint64 `json:"failures"` // answers that did not come
}

// NetworkPeer is another host of the network. Its JSON is stable.
type NetworkPeer struct {
	ID         string        `json:"id"`
	Addrs      []string      `json:"addrs"` // of its connections, or else where it is looked for
	Configured bool          `json:"configured"`
	Connected  bool          `json:"connected"`
	Since      time.Time     `json:"since,omitzero"`      // it is connected
	Direction  string        `json:"direction,omitempty"` // "in" or "out": who began the connection
	Latency    time.Duration `json:"latency_ns,omitempty"`
	Agent      string        `json:"agent,omitempty"`      // the program it says it is
	Error      string        `json:"last_error,omitempty"` // why it could not be connected to; "error" is of a stream that breaks off
}

type noNetwork struct{}

var _ Network = noNetwork{}

func (noNetwork) State(context.Context) (NetworkState, error) { return NetworkState{}, ErrNoNetwork }

func (noNetwork) Peers(context.Context) ([]NetworkPeer, error) { return nil, ErrNoNetwork }

// NoNetwork returns the network of a host that is in none.
func NoNetwork() Network { return noNetwork{} }
