package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

func (s *Server) replicaRoutes() {
	s.handle("GET "+prefix+"/replicas/{cid}", s.replicas(func(c *call, root cid.Cid) (pinset.Status, error) {
		return s.replicated().Status(c.r.Context(), root)
	}))
	s.handle("POST "+prefix+"/replicas/{cid}/wait", s.replicas(s.waitForReplicas))
	s.handle("POST "+prefix+"/replicas/{cid}/recover", s.replicas(func(c *call, root cid.Cid) (pinset.Status, error) {
		c.log("recovering", logRoot, root)
		return s.replicated().Recover(c.r.Context(), root)
	}))
	s.handle("GET "+prefix+"/outbox", s.outbox)
}

func (s *Server) replicated() Replicas {
	if s.host.Replicas == nil {
		return noReplicas{}
	}
	return s.host.Replicas
}

// replicas answers with what ask is told of the root that the path names.
func (s *Server) replicas(ask func(*call, cid.Cid) (pinset.Status, error)) func(*call) error {
	return func(c *call) error {
		root, err := c.pathCID()
		if err != nil {
			return err
		}
		st, err := ask(c, root)
		if err != nil {
			return err
		}
		j, err := statusToWire(st)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, j)
	}
}

func (s *Server) waitForReplicas(c *call, root cid.Cid) (pinset.Status, error) {
	var o WaitOptions
	var err error
	q := c.r.URL.Query()
	if text := q.Get("replicas"); text != "" {
		if o.Replicas, err = strconv.Atoi(text); err != nil || o.Replicas < 0 {
			return pinset.Status{}, fmt.Errorf("parameter replicas=%q is no number: %w", text, ErrRequest)
		}
	}
	if text := q.Get("timeout"); text != "" {
		if o.Timeout, err = time.ParseDuration(text); err != nil || o.Timeout < 0 {
			return pinset.Status{}, fmt.Errorf("parameter timeout=%q is no time such as 30s: %w", text, ErrRequest)
		}
	}
	// Who stops the daemon does not wait for the cluster.
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.stopping:
			cancel(errStopping)
		case <-done:
		}
	}()
	return s.replicated().Wait(ctx, root, o)
}

func (s *Server) outbox(c *call) error {
	all, err := s.replicated().Waiting(c.r.Context())
	if err != nil {
		return err
	}
	return c.lines(func(l *lineWriter) error {
		for _, w := range all {
			j := waitingJSON{
				Op: w.Op, Root: w.Root.String(), Owner: w.Owner, Since: w.Since, Attempts: w.Attempts, Error: w.Error, Next: w.Next,
			}
			if err := l.line(j); err != nil {
				return err
			}
		}
		return nil
	})
}
