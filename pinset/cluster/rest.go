package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
)

const (
	dialTimeout = 10 * time.Second
	// maxAnswer bounds a single answer, maxValue one of a list, and maxHeader what is before either.
	maxAnswer = 16 << 20
	maxValue  = 1 << 20
	maxHeader = 256 << 10
	// maxError bounds an answer that says what is wrong, and maxMessage what is repeated of it.
	maxError   = 8 << 10
	maxMessage = 400
)

var errTooMuch = errors.New("the answer is longer than it can be")

// rest is a client of a peer's REST API. IPFS Cluster's own reads answers of any size into memory.
type rest struct {
	base           string // URL without a path
	user, password string
	client         *http.Client
}

// newRest makes the client of a host and port, or of a unix socket.
func newRest(scheme, address, socket string, o Options) *rest {
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxHeader,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure},
	}
	if socket != "" {
		address, t.Proxy = "unix", nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	return &rest{scheme + "://" + address, o.User, o.Password, &http.Client{Transport: t}}
}

// send makes a request. An answer that says what is wrong is an api.Error.
func (r *rest) send(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, nil)
	if err != nil {
		return nil, err
	}
	if r.user != "" {
		req.SetBasicAuth(r.user, r.password)
	}
	res, err := r.client.Do(req)
	if err != nil {
		var in *url.Error
		if errors.As(err, &in) {
			err = in.Err // without the URL, which has all of a pin in it
		}
		return nil, err
	}
	if res.StatusCode < http.StatusBadRequest {
		return res, nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	if err != nil {
		return nil, err
	}
	said := api.Error{}
	if json.Unmarshal(text, &said) != nil || said.Message == "" {
		said.Message = fmt.Sprintf("%q", bytes.TrimSpace(text[:min(len(text), maxMessage)]))
	}
	said.Code = res.StatusCode
	return nil, said
}

// ask makes a request with a single answer.
func (r *rest) ask(ctx context.Context, method, path string, answer any) error {
	res, err := r.send(ctx, method, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body := &limited{res.Body, maxAnswer}
	if res.StatusCode == http.StatusAccepted || res.StatusCode == http.StatusNoContent {
		return nil
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// list makes a request whose answer is any number of values, and closes out at their end.
func list[T any](ctx context.Context, r *rest, path string, out chan<- T) error {
	defer close(out)
	res, err := r.send(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s instead of a list", res.Status)
	}
	body := &limited{r: res.Body}
	for values := json.NewDecoder(body); ; {
		var value T
		body.left = maxValue
		err := values.Decode(&value)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		select {
		case out <- value:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, said := range res.Trailer.Values("X-Stream-Error") {
		if said != "" {
			return api.Error{Code: http.StatusInternalServerError, Message: said}
		}
	}
	return nil
}

// limited fails where a reader has more than may come.
type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

func (r *rest) pin(ctx context.Context, root api.Cid, opts api.PinOptions) (pin api.Pin, _ error) {
	query, err := opts.ToQuery()
	if err != nil {
		return pin, err
	}
	err = r.ask(ctx, http.MethodPost, "/pins/"+root.String()+"?"+query, &pin)
	return pin, err
}

func (r *rest) unpin(ctx context.Context, root api.Cid) error {
	return r.ask(ctx, http.MethodDelete, "/pins/"+root.String(), &api.Pin{})
}

func (r *rest) allocation(ctx context.Context, root api.Cid) (pin api.Pin, err error) {
	err = r.ask(ctx, http.MethodGet, "/allocations/"+root.String(), &pin)
	return pin, err
}

func (r *rest) allocations(ctx context.Context, out chan<- api.Pin) error {
	return list(ctx, r, "/allocations?filter="+api.DataType.String(), out)
}

// status is what a peer knows of a root: of itself only, or of all.
func (r *rest) status(ctx context.Context, root api.Cid, local bool) (info api.GlobalPinInfo, err error) {
	err = r.ask(ctx, http.MethodGet, fmt.Sprintf("/pins/%s?local=%t", root, local), &info)
	return info, err
}

func (r *rest) statusAll(ctx context.Context, out chan<- api.GlobalPinInfo) error {
	return list(ctx, r, "/pins?local=false&filter=&cids=", out)
}

func (r *rest) recover(ctx context.Context, root api.Cid) (info api.GlobalPinInfo, err error) {
	err = r.ask(ctx, http.MethodPost, "/pins/"+root.String()+"/recover?local=false", &info)
	return info, err
}

func (r *rest) metrics(ctx context.Context, name string) (metrics []api.Metric, err error) {
	err = r.ask(ctx, http.MethodGet, "/monitor/metrics/"+name, &metrics)
	return metrics, err
}

func (r *rest) version(ctx context.Context) (v api.Version, err error) {
	err = r.ask(ctx, http.MethodGet, "/version", &v)
	return v, err
}
