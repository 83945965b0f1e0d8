package api

import (
	"context"
	"net/http"
	"net/url"
)

type remoteHeads struct{ *client }

var _ Heads = remoteHeads{}

func (c remoteHeads) Signed(ctx context.Context, name string) (s Signed, _ error) {
	q := url.Values{"volume": {name}}
	return s, c.get(ctx, request{method: http.MethodGet, path: prefix + "/signed?" + q.Encode()}, &s)
}
