package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume"
)

type remoteVolumes struct{ *client }

var _ Volumes = remoteVolumes{}

func (c remoteVolumes) List(ctx context.Context, o volume.ListOptions) (infos []volume.Info, _ error) {
	for i, err := range list[volume.Info](ctx, c.client, fmt.Sprintf("%s/volumes?trash=%t&dirty=%t", prefix, o.Trash, o.Dirty)) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, i)
	}
	return infos, nil
}

func (c remoteVolumes) Inspect(ctx context.Context, name string) (*volume.Info, error) {
	// A name that no volume can have might be another route.
	if err := volume.CheckName(name); err != nil {
		return nil, err
	}
	i := new(volume.Info)
	return i, c.get(ctx, request{method: http.MethodGet, path: prefix + "/volumes/" + url.PathEscape(name)}, i)
}

func (c remoteVolumes) Resolve(ctx context.Context, ref string) (cid.Cid, error) {
	var j resolvedJSON
	err := c.get(ctx, request{method: http.MethodGet, path: prefix + "/resolve?" + url.Values{"ref": {ref}}.Encode()}, &j)
	return j.CID.Cid, err
}

func (c remoteVolumes) Watch(ctx context.Context, o volume.WatchOptions) iter.Seq2[volume.News, error] {
	q := url.Values{"name": o.Names, "exist": {strconv.FormatBool(o.Exist)}, "current": {strconv.FormatBool(o.Current)}}
	return lines[volume.News](ctx, c.client, request{method: http.MethodGet, path: prefix + "/watch?" + q.Encode(), stream: true})
}

func (c remoteVolumes) Do(ctx context.Context, op volume.Operation) (res volume.Result, _ error) {
	body, err := json.Marshal(op)
	if err != nil {
		return res, err
	}
	q := request{method: http.MethodPost, path: prefix + "/volumes/do/" + volume.OperationName(op), once: true}
	return res, c.get(ctx, q.with(body), &res)
}
