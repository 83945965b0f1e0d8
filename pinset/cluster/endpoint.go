package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest/client"
	ma "github.com/multiformats/go-multiaddr"

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
	client client.Client
}

// dial makes the client of an endpoint. It asks nothing. The client reads a single answer of any size: what bounds it is
// the time of a request.
func dial(address string, o Options) (endpoint, error) {
	config := &client.Config{Username: o.User, Password: o.Password, NoVerifyCert: o.Insecure, LogLevel: "fatal"}
	name := address
	if strings.HasPrefix(address, "/") {
		addr, err := ma.NewMultiaddr(address)
		if err != nil {
			return endpoint{}, fmt.Errorf("cluster endpoint %s: %w", address, err)
		}
		if client.IsPeerAddress(addr) {
			return endpoint{}, fmt.Errorf("cluster endpoint %s: the API over libp2p is not supported; give its HTTP address", address)
		}
		config.APIAddr = addr
	} else {
		u, err := url.Parse(address)
		if err != nil {
			// The error has the whole URL in it, and that may have a password.
			return endpoint{}, errors.New("cluster endpoint: not a URL")
		}
		name = u.Redacted()
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return endpoint{}, fmt.Errorf("cluster endpoint %s: want http://HOST[:PORT] or https://HOST[:PORT]", name)
		}
		config.Host, config.Port, config.SSL = u.Hostname(), u.Port(), u.Scheme == "https"
		if u.User != nil {
			config.Username = u.User.Username()
			config.Password, _ = u.User.Password()
		}
	}
	c, err := client.NewDefaultClient(config)
	if err != nil {
		return endpoint{}, fmt.Errorf("cluster endpoint %s: %w", name, err)
	}
	return endpoint{name, c}, nil
}

// call makes one request within the time it may take. op says what for.
func (s *Set) call(ctx context.Context, e endpoint, op string, request func(context.Context) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, fmt.Errorf("no answer within %s", s.o.Timeout))
	defer cancel()
	return explain(limited, ctx, e, op, request(limited))
}

// explain turns the client's error into ours. The client keeps no cause, only text: limited, the request's context,
// and ctx, the caller's, say what ended it.
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
	said := cause(answer.Message)
	switch code := answer.Code; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		return wrap(ErrUnauthorized)
	case code == http.StatusNotFound:
		return wrap(pinset.ErrNotPinned)
	case code == http.StatusRequestHeaderFieldsTooLarge, code == http.StatusRequestURITooLong:
		return wrap(fmt.Errorf("%w (%d)", ErrTooLarge, code))
	// Below 400 an answer came, but not all of it. The others are what proxies say of a server that is away.
	case code < 400, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return wrap(fmt.Errorf("%w: %s", pinset.ErrUnavailable, said))
	default:
		return wrap(fmt.Errorf("%s (%d)", said, code))
	}
}

// maxMessage is how much of what an endpoint says is repeated, in bytes.
const maxMessage = 400

// cause is what net/http says without the request's URL, which has all of a pin in it. It is for reading only.
func cause(message string) string {
	if method, rest, ok := strings.Cut(message, ` "http`); ok && !strings.Contains(method, " ") {
		if _, after, ok := strings.Cut(rest, `": `); ok {
			message = after
		}
	}
	return strings.TrimSpace(message[:min(len(message), maxMessage)])
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
