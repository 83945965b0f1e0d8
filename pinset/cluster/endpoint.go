package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/volary/volary/pinset"
)

// ErrUnauthorized says that an endpoint did not take the user and password.
var ErrUnauthorized = errors.New("not authorised: wrong user or password")

// Error is what went wrong at an endpoint.
type Error struct {
	Op       string // what was being done
	Endpoint string // URL or multiaddress, without a password
	Err      error
}

func (e *Error) Error() string { return e.Op + ": cluster at " + e.Endpoint + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// endpoint is the REST API of one peer.
type endpoint struct {
	name   string
	client *rest
}

// defaultPort is that of a URL that names none.
const defaultPort = "9094"

// dial makes the client of an endpoint. It asks nothing.
func dial(address string, o Options) (endpoint, error) {
	if strings.HasPrefix(address, "/") {
		return dialMultiaddr(address, o)
	}
	u, err := url.Parse(address)
	if err != nil {
		// The error has the whole URL in it, and that may have a password.
		return endpoint{}, errors.New("cluster endpoint: not a URL")
	}
	name := u.Redacted()
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return endpoint{}, fmt.Errorf("cluster endpoint %q: want http://HOST[:PORT] or https://HOST[:PORT]", name)
	}
	if u.User != nil {
		o.User = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	host := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), defaultPort))
	return endpoint{name, newRest(u.Scheme, host, "", o)}, nil
}

func dialMultiaddr(address string, o Options) (endpoint, error) {
	addr, err := ma.NewMultiaddr(address)
	if err != nil {
		return endpoint{}, fmt.Errorf("cluster endpoint %s: %w", address, err)
	}
	for _, p := range addr.Protocols() {
		if p.Code == ma.P_P2P || p.Code == ma.P_DNSADDR {
			return endpoint{}, fmt.Errorf("cluster endpoint %s: the API over libp2p is not supported; give its HTTP address", address)
		}
	}
	network, host, err := manet.DialArgs(addr)
	switch {
	case err != nil:
		return endpoint{}, fmt.Errorf("cluster endpoint %s: %w", address, err)
	case network == "unix":
		return endpoint{address, newRest("http", "", host, o)}, nil
	case !strings.HasPrefix(network, "tcp"):
		return endpoint{}, fmt.Errorf("cluster endpoint %s: %s is neither TCP nor a unix socket", address, network)
	}
	return endpoint{address, newRest("http", host, "", o)}, nil
}

// call makes one request within the time it may take. op says what for.
func (s *Set) call(ctx context.Context, e endpoint, op string, request func(context.Context) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, fmt.Errorf("no answer within %s", s.o.Timeout))
	defer cancel()
	return explain(limited, ctx, e, op, request(limited))
}

// explain turns the client's error into ours: limited, the request's context, and ctx, the caller's, say what ended
// it.
func explain(limited, ctx context.Context, e endpoint, op string, err error) error {
	if err == nil {
		return nil
	}
	wrap := func(err error) error { return &Error{Op: op, Endpoint: e.name, Err: err} }
	if ctx.Err() != nil {
		return wrap(context.Cause(ctx))
	}
	if limited.Err() != nil {
		return wrap(fmt.Errorf("%w: %w", pinset.ErrUnavailable, context.Cause(limited)))
	}
	var answer api.Error
	if !errors.As(err, &answer) {
		return wrap(fmt.Errorf("%w: %w", pinset.ErrUnavailable, err))
	}
	said := strings.TrimSpace(answer.Message[:min(len(answer.Message), maxMessage)])
	switch code := answer.Code; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		return wrap(ErrUnauthorized)
	case code == http.StatusNotFound:
		return wrap(pinset.ErrNotPinned)
	case code == http.StatusRequestHeaderFieldsTooLarge, code == http.StatusRequestURITooLong:
		return wrap(fmt.Errorf("%w (%d)", ErrTooLarge, code))
	// What proxies say of a server that is away.
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return wrap(fmt.Errorf("%w: %s", pinset.ErrUnavailable, said))
	default:
		return wrap(fmt.Errorf("%s (%d)", said, code))
	}
}

// try does something at the endpoint that answered last, and, where that is unavailable, at the others, from its
// beginning: what one peer was told just before it died, the others may never hear of.
func (s *Set) try(ctx context.Context, op string, do func(endpoint) error) error {
	first := int(s.current.Load())
	var errs []error
	for i := range s.endpoints {
		at := (first + i) % len(s.endpoints)
		err := do(s.endpoints[at])
		if err == nil || !errors.Is(err, pinset.ErrUnavailable) {
			s.current.CompareAndSwap(int32(first), int32(at))
			return err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	var texts []string
	for _, err := range errs {
		texts = append(texts, strings.TrimPrefix(err.Error(), op+": "))
	}
	return &allUnavailable{op, texts}
}

// allUnavailable is what each of several endpoints said.
type allUnavailable struct {
	op    string
	texts []string
}

func (e *allUnavailable) Error() string { return e.op + ": " + strings.Join(e.texts, "; ") }

func (e *allUnavailable) Unwrap() error { return pinset.ErrUnavailable }
