package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

type (
	remotePins    struct{ *client }
	remoteTags    struct{ *client }
	remoteOrigins struct{ *client }
	remoteUpkeep  struct{ *client }
)

var (
	_ pinset.Set = remotePins{}
	_ Sessions   = remoteSessions{}
	_ Tags       = remoteTags{}
	_ Origins    = remoteOrigins{}
	_ Upkeep     = remoteUpkeep{}
)

// cidRequest makes a request about one CID.
func cidRequest(method, path string, c cid.Cid) (request, error) {
	return request{method: method, path: prefix + path + "/" + c.String()}, checkCIDs(c)
}

// runCID makes a request about one CID whose answer is nothing.
func (c *client) runCID(ctx context.Context, method, path string, id cid.Cid) error {
	q, err := cidRequest(method, path, id)
	if err != nil {
		return err
	}
	return c.run(ctx, q)
}

// list yields the lines of a stream, each decoded into a T.
func list[T any](ctx context.Context, c *client, path string) iter.Seq2[T, error] {
	return lines[T](ctx, c, request{method: http.MethodGet, path: path})
}

// lines is list for any request.
func lines[T any](ctx context.Context, c *client, q request) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		res, err := c.do(ctx, q)
		if err != nil {
			yield(none, err)
			return
		}
		defer res.Body.Close()
		lines := json.NewDecoder(res.Body)
		for {
			var raw json.RawMessage
			err := lines.Decode(&raw)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(none, c.lost(ctx, err))
				return
			}
			v, err := decodeLine[T](c, raw)
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

func decodeLine[T any](c *client, raw []byte) (v T, _ error) {
	var bad errorLine
	err := json.Unmarshal(raw, &bad)
	if err == nil && bad.Error != nil {
		return v, c.errors.decode(*bad.Error)
	}
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		err = fmt.Errorf("daemon on %s: decode its answer: %w", c.path, err)
	}
	return v, err
}

func (c remotePins) Add(ctx context.Context, p pinset.Pin) error {
	q, err := cidRequest(http.MethodPut, "/pins", p.Root)
	if err != nil {
		return err
	}
	if err := pinset.CheckOwner(p.Owner); err != nil {
		return err
	}
	j, err := pinToWire(p)
	if err != nil {
		return err
	}
	body, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("pin %s: %w", p.Root, err)
	}
	return c.run(ctx, q.with(body))
}

func (c remotePins) Remove(ctx context.Context, root cid.Cid, owner string) error {
	q, err := cidRequest(http.MethodDelete, "/pins", root)
	if err != nil {
		return err
	}
	if owner != "" {
		q.path += "?" + url.Values{"owner": {owner}}.Encode()
	}
	return c.run(ctx, q)
}

func (c remotePins) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	st := pinset.Status{State: pinset.Unpinned}
	q, err := cidRequest(http.MethodGet, "/pins", root)
	if err != nil {
		return st, err
	}
	var j statusJSON
	if err := c.get(ctx, q, &j); err != nil {
		return st, err
	}
	return statusFromWire(j)
}

func (c remotePins) All(ctx context.Context) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		for j, err := range list[pinJSON](ctx, c.client, prefix+"/pins") {
			var p pinset.Pin
			if err == nil {
				p, err = pinFromWire(j)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func tagPath(q url.Values) string { return prefix + "/tags?" + q.Encode() }

func (c remoteTags) Tag(ctx context.Context, name string, root cid.Cid) error {
	if err := checkCIDs(root); err != nil {
		return err
	}
	path := tagPath(url.Values{"name": {name}, "root": {root.String()}})
	return c.run(ctx, request{method: http.MethodPut, path: path})
}

func (c remoteTags) Untag(ctx context.Context, name string) error {
	return c.run(ctx, request{method: http.MethodDelete, path: tagPath(url.Values{"name": {name}}), once: true})
}

func (c remoteTags) Tags(ctx context.Context) (map[string]cid.Cid, error) {
	tags := map[string]cid.Cid{}
	for j, err := range list[tagJSON](ctx, c.client, prefix+"/tags") {
		if err != nil {
			return nil, err
		}
		root, err := parseCID(j.Root)
		if err != nil {
			return nil, err
		}
		tags[string(j.Name)] = root
	}
	return tags, nil
}

func (c remoteOrigins) MarkOwn(ctx context.Context, commit cid.Cid) error {
	return c.runCID(ctx, http.MethodPut, "/own", commit)
}

func (c remoteOrigins) Own(ctx context.Context, commit cid.Cid) (bool, error) {
	q, err := cidRequest(http.MethodGet, "/own", commit)
	if err != nil {
		return false, err
	}
	var j ownJSON
	err = c.get(ctx, q, &j)
	return j.Own, err
}

func (c remoteUpkeep) Collect(ctx context.Context, dryRun bool) (Collected, error) {
	var res Collected
	path := prefix + "/collect?dry_run=" + strconv.FormatBool(dryRun)
	err := c.get(ctx, request{method: http.MethodPost, path: path}, &res)
	return res, err
}

func (c remoteUpkeep) Drop(ctx context.Context, id cid.Cid) error {
	return c.runCID(ctx, http.MethodDelete, "/blocks", id)
}

func (c remoteUpkeep) Status(ctx context.Context) (Status, error) {
	var st Status
	err := c.get(ctx, request{method: http.MethodGet, path: prefix + "/status"}, &st)
	return st, err
}
