package main

import (
	"context"
	"errors"

	"github.com/volary/volary/volume/api"
)

// checkNetwork asks the daemon how this host stands in the network of its namespace, if it is to be in it.
func (h *home) checkNetwork(ctx context.Context) []finding {
	const name = "network"
	if !h.config.networked() {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, checkTime)
	defer done()
	host, err := api.Dial(ctx, h.path(socketName), api.DialOptions{Kinds: errorKinds})
	if err != nil {
		f := found(name, "only a daemon connects to other hosts, and %s", abbreviate(firstLine(err.Error())))
		return []finding{f.as(slow, "start one: `volary daemon`")}
	}
	defer host.Close()
	st, err := host.Network.State(ctx)
	switch {
	case errors.Is(err, api.ErrNoNetwork):
		return []finding{found(name, "the daemon runs without it").as(slow, "restart it, so that it reads the settings: mounted volumes outlive that")}
	case err != nil:
		return []finding{fault(name, err, "")}
	case st.Error != "":
		return []finding{found(name, "%s", st.Error).as(broken, "see listen in config.toml; it is tried again and again")}
	}
	f := found(name, "%d peers connected, %d of %d configured ones", st.Connected, st.Configured-st.Missing, st.Configured)
	if st.Missing == 0 {
		return []finding{f}
	}
	peers, err := host.Network.Peers(ctx)
	if err != nil {
		return []finding{fault(name, err, "")}
	}
	for _, p := range peers {
		if p.Configured && !p.Connected && p.Error != "" {
			f.Detail += "; " + p.Error
			break
		}
	}
	return []finding{f.as(slow, "see `volary peers`")}
}
