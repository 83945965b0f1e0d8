package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

type remoteReplicas struct{ *client }

var _ Replicas = remoteReplicas{}

func (c remoteReplicas) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	q, err := cidRequest(http.MethodGet, "/replicas", root)
	if err != nil {
		return pinset.Status{}, err
	}
	return c.status(ctx, q)
}

// Wait leaves the timeout to the daemon, which knows who lags.
func (c remoteReplicas) Wait(ctx context.Context, root cid.Cid, o WaitOptions) (w Waited, _ error) {
	q, err := cidRequest(http.MethodPost, "/replicas", root)
	if err != nil {
		return w, err
	}
	q.path += "/wait?" + url.Values{
		"replicas": {strconv.Itoa(o.Replicas)}, "timeout": {o.Timeout.String()}, "progress": {"true"},
	}.Encode()
	q.stream = true
	for j, err := range lines[waitedJSON](ctx, c.client, q) {
		if err == nil {
			w, err = waitedFromWire(j)
		}
		if err != nil {
			return w, err
		}
		if o.Progress != nil {
			o.Progress(w)
		}
	}
	return w, nil
}

func waitedFromWire(j waitedJSON) (w Waited, err error) {
	if w.Root, err = parseCID(j.Root); err == nil {
		w.Status, err = statusFromWire(j.statusJSON)
	}
	return w, err
}

func (c remoteReplicas) Held(ctx context.Context) (all []pinset.Held, _ error) {
	for j, err := range list[heldJSON](ctx, c.client, prefix+"/replicas") {
		if err != nil {
			return nil, err
		}
		root, err := parseCID(j.Root)
		if err != nil {
			return nil, err
		}
		all = append(all, pinset.Held{Root: root, State: j.State, Have: j.Have, Min: j.Min, Max: j.Max})
	}
	return all, nil
}

func (c remoteReplicas) Recover(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	q, err := cidRequest(http.MethodPost, "/replicas", root)
	if err != nil {
		return pinset.Status{}, err
	}
	q.path += "/recover"
	return c.status(ctx, q)
}

func (c remoteReplicas) status(ctx context.Context, q request) (pinset.Status, error) {
	var j statusJSON
	if err := c.get(ctx, q, &j); err != nil {
		return pinset.Status{}, err
	}
	return statusFromWire(j)
}

func (c remoteReplicas) Waiting(ctx context.Context) ([]Waiting, error) {
	var all []Waiting
	for j, err := range list[waitingJSON](ctx, c.client, prefix+"/outbox") {
		if err != nil {
			return nil, err
		}
		root, err := parseCID(j.Root)
		if err != nil {
			return nil, err
		}
		all = append(all, Waiting{
			Op: j.Op, Root: root, Owner: j.Owner, Since: j.Since, Attempts: j.Attempts, Error: j.Error, Next: j.Next,
		})
	}
	return all, nil
}
