package kubo

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	dialTimeout = 10 * time.Second
	// pieceSize is how much is handed to the network at a time.
	pieceSize = 128 << 10
	mostIdle  = 32 // connections
	maxHeader = 256 << 10
)

// endpoint is a daemon's address taken apart.
type endpoint struct {
	name          string // for people
	url           string // for the client
	socket        string // path of a unix socket, or empty
	authorization string // header
}

func parseEndpoint(o Options) (endpoint, error) {
	var e endpoint
	var err error
	if strings.HasPrefix(o.Endpoint, "/") {
		err = e.parseMultiaddr(o.Endpoint)
	} else {
		err = e.parseURL(o.Endpoint)
	}
	switch {
	case err != nil:
		return e, fmt.Errorf("endpoint of kubo: %w", err)
	case o.Token != "" && (o.User != "" || e.authorization != ""):
		return e, fmt.Errorf("endpoint of kubo: %s: give a token, or a user and password", e.name)
	case o.Token != "":
		e.authorization = "Bearer " + o.Token
	case o.User != "":
		e.authorization = basic(o.User, o.Password)
	}
	return e, nil
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (e *endpoint) parseMultiaddr(s string) error {
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	network, address, err := manet.DialArgs(a)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	e.name = s
	switch {
	case network == "unix":
		e.socket, e.url = address, "http://unix"
		return nil
	case !strings.HasPrefix(network, "tcp"):
		return fmt.Errorf("%s: %s is neither TCP nor a unix socket", s, network)
	}
	scheme := "http"
	ma.ForEach(a, func(c ma.Component) bool {
		if p := c.Protocol().Code; p == ma.P_TLS || p == ma.P_HTTPS {
			scheme = "https"
		}
		return true
	})
	e.url = scheme + "://" + address
	return nil
}

func (e *endpoint) parseURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		// The parser's error repeats its input, which may have a password in it.
		return errors.New("not a URL and not a multiaddr")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		e.authorization = basic(u.User.Username(), password)
		u.User = nil
	}
	e.name = u.String()
	switch {
	case u.Scheme == "unix" && u.Path != "":
		e.socket, e.url = u.Path, "http://unix"
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		e.url = strings.TrimSuffix(u.String(), "/")
	default:
		return fmt.Errorf("%q is no URL of http, https or unix, and not a multiaddr", e.name)
	}
	return nil
}

func (e *endpoint) transport(config *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: config,
		TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: mostIdle, IdleConnTimeout: time.Minute,
		WriteBufferSize: pieceSize, ReadBufferSize: pieceSize / 2, DisableCompression: true,
		MaxResponseHeaderBytes: maxHeader,
	}
	if e.socket != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", e.socket)
		}
	}
	return t
}
