package api

import (
	"context"
	"net/http"
)

type remoteNetwork struct{ *client }

var _ Network = remoteNetwork{}

func (c remoteNetwork) State(ctx context.Context) (st NetworkState, _ error) {
	return st, c.get(ctx, request{method: http.MethodGet, path: prefix + "/network"}, &st)
}

func (c remoteNetwork) Peers(ctx context.Context) (all []NetworkPeer, _ error) {
	for p, err := range list[NetworkPeer](ctx, c.client, prefix+"/peers") {
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
