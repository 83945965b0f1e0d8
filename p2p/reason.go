package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// UnreachableError says in one line why a peer could not be connected to.
type UnreachableError struct {
	Peer  peer.ID
	Text  string
	Cause error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("connect to %s: %s", e.Peer, e.Text) }
func (e *UnreachableError) Unwrap() error { return e.Cause }

// reason makes one line of what libp2p says of an attempt: of each address what came of it.
func (h *Host) reason(p peer.ID, err error) error {
	var dial *swarm.DialError
	switch {
	case errors.As(err, &dial):
	case errors.Is(err, context.DeadlineExceeded): // all addresses together had no more time
		return &UnreachableError{p, h.outcome(err), err}
	default:
		return &UnreachableError{p, oneLine(err), err}
	}
	var texts []string
	for _, e := range dial.DialErrors {
		texts = append(texts, fmt.Sprintf("%s: %s", e.Address, h.outcome(e.Cause)))
	}
	if len(texts) == 0 {
		texts = []string{oneLine(dial.Cause)}
	}
	return &UnreachableError{p, strings.Join(texts, "; "), err}
}

// outcome is what came of a connection to one address.
func (h *Host) outcome(err error) string {
	var other sec.ErrPeerIDMismatch
	var op *net.OpError
	switch {
	case errors.As(err, &other):
		return fmt.Sprintf("another host answers there, %s", other.Actual)
	case errors.As(err, &op) && op.Op == "dial":
		if op.Timeout() {
			return "no answer in time"
		}
		return oneLine(op.Err)
	case errors.Is(err, context.DeadlineExceeded) && h.private:
		// What comes under another key is noise, which may say that more follows.
		return "no answer in time, as of a host that has another swarm key"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, swarm.ErrNoTransport), errors.Is(err, context.Canceled):
		return oneLine(err)
	case h.private:
		return fmt.Sprintf("it answers, but not as one with this namespace's swarm key (%s)", oneLine(err))
	}
	return oneLine(err)
}

// longestReason is how much of an error is kept, in bytes.
const longestReason = 200

// oneLine is an error as people's terminals may see it: what a peer said may be in it.
func oneLine(err error) string {
	if err == nil {
		return "no reason is known"
	}
	text := printable(strings.Join(strings.Fields(err.Error()), " "))
	if len(text) > longestReason {
		text = strings.ToValidUTF8(text[:longestReason], "") + "…"
	}
	return text
}
