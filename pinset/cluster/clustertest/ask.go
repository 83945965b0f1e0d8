package clustertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"time"
)

// canary is a CID that has its content, "clustertest", in itself: nobody needs to fetch it.
const canary = "bafkqac3dnr2xg5dfoj2gk43u"

// settleTime is how long a pin takes at most to be known to every peer that works.
const settleTime = 5 * time.Second

// restReady says whether the cluster peer answers.
func (n *Node) restReady(ctx context.Context) error {
	_, err := n.ask(ctx, http.MethodGet, n.REST()+"/version", "", nil)
	return err
}

// deaf lists the nodes that do not hear what is pinned at another one: a cluster peer to which others connect before
// it has registered for it never asks them for anything.
func (n *Node) deaf(ctx context.Context, nodes []*Node) ([]*Node, error) {
	if _, err := n.ask(ctx, http.MethodPost, n.REST()+"/pins/"+canary+"?replication-min=1&replication-max=1", "", nil); err != nil {
		return nil, err
	}
	deaf := unlike(ctx, nodes, func(known bool) bool { return known })
	if _, err := n.ask(ctx, http.MethodDelete, n.REST()+"/pins/"+canary, "", nil); err != nil {
		return nil, err
	}
	if len(deaf) > 0 {
		return deaf, nil
	}
	return unlike(ctx, nodes, func(known bool) bool { return !known }), nil
}

// unlike waits until all nodes are as wanted with the canary, and returns those that are not.
func unlike(ctx context.Context, nodes []*Node, wanted func(known bool) bool) []*Node {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var left []*Node
		for _, n := range nodes {
			if _, err := n.ask(ctx, http.MethodGet, n.REST()+"/allocations/"+canary, "", nil); !wanted(err == nil) {
				left = append(left, n)
			}
		}
		if nodes = left; len(left) == 0 || ctx.Err() != nil {
			return left
		}
		select {
		case <-ctx.Done():
			return left
		case <-tick.C:
		}
	}
}

// kuboReady says whether the RPC answers.
func (n *Node) kuboReady(ctx context.Context) error {
	_, err := n.ask(ctx, http.MethodPost, n.RPCURL()+"/api/v0/id", "", nil)
	return err
}

// sees says whether the cluster peer could allocate to all of others: a pin before that is refused.
func (n *Node) sees(ctx context.Context, others []*Node) error {
	for _, name := range []string{"ping", "freespace", "tag:group"} {
		text, err := n.ask(ctx, http.MethodGet, n.REST()+"/monitor/metrics/"+name, "", nil)
		if err != nil {
			return err
		}
		var metrics []struct {
			Peer  string
			Valid bool
		}
		if err := json.Unmarshal(text, &metrics); err != nil {
			return err
		}
		valid := map[string]bool{}
		for _, m := range metrics {
			valid[m.Peer] = m.Valid
		}
		for _, o := range others {
			if !valid[o.ID] {
				return fmt.Errorf("%s has no valid %s of %s", n.Name, name, o.Name)
			}
		}
	}
	return nil
}

// PutBlock stores a raw block in the node's Kubo and returns its CID.
func (n *Node) PutBlock(ctx context.Context, data []byte) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("data", "data")
	if err != nil {
		return "", err
	}
	if _, err := part.Write(data); err != nil {
		return "", err
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	text, err := n.ask(ctx, http.MethodPost, n.RPCURL()+"/api/v0/block/put?cid-codec=raw", form.FormDataContentType(), &body)
	if err != nil {
		return "", err
	}
	var stored struct{ Key string }
	err = json.Unmarshal(text, &stored)
	return stored.Key, err
}

// Pins tells whether the node's Kubo has a recursive pin of a CID, whatever the cluster says.
func (n *Node) Pins(ctx context.Context, c string) (bool, error) {
	text, err := n.ask(ctx, http.MethodPost, n.RPCURL()+"/api/v0/pin/ls?type=recursive", "", nil)
	return bytes.Contains(text, []byte(c)), err
}

// ask makes one short request and returns the body of a good answer.
func (n *Node) ask(ctx context.Context, method, url, contentType string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if n.user != "" {
		req.SetBasicAuth(n.user, n.password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	return text, err
}
