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
	s.handle("GET "+prefix+"/replicas/{cid}", s.statusOf(func(c *call, root cid.Cid) (pinset.Status, error) {
		return s.replicated().Status(c.r.Context(), root)
	}))
	s.handle("GET "+prefix+"/replicas", s.held)
	s.handle("POST "+prefix+"/replicas/{cid}/wait", s.waitForReplicas)
	s.handle("POST "+prefix+"/replicas/{cid}/recover", s.statusOf(func(c *call, root cid.Cid) (pinset.Status, error) {
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

// statusOf answers with what ask is told of the root that the path names.
func (s *Server) statusOf(ask func(*call, cid.Cid) (pinset.Status, error)) func(*call) error {
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

func (c *call) waitOptions() (o WaitOptions, err error) {
	q := c.r.URL.Query()
	if text := q.Get("replicas"); text != "" {
		if o.Replicas, err = strconv.Atoi(text); err != nil || o.Replicas < 0 {
			return o, fmt.Errorf("parameter replicas=%q is no number: %w", text, ErrRequest)
		}
	}
	if text := q.Get("timeout"); text != "" {
		if o.Timeout, err = time.ParseDuration(text); err != nil || o.Timeout < 0 {
			return o, fmt.Errorf("parameter timeout=%q is no time such as 30s: %w", text, ErrRequest)
		}
	}
	return o, nil
}

// waitForReplicas answers with what there is in the end, or with a line whenever something changes, the last of which
// says that.
func (s *Server) waitForReplicas(c *call) error {
	root, err := c.pathCID()
	if err != nil {
		return err
	}
	o, err := c.waitOptions()
	if err != nil {
		return err
	}
	progress, err := c.flag("progress")
	if err != nil {
		return err
	}
	if !progress {
		w, err := s.wait(c, root, o)
		if err != nil {
			return err
		}
		j, err := waitedToWire(w)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, j)
	}
	return c.lines(func(l *lineWriter) error {
		line := func(w Waited) error {
			j, err := waitedToWire(w)
			if err == nil {
				err = l.line(j)
			}
			return err
		}
		o.Progress = func(w Waited) {
			if line(w) == nil {
				l.flush() // who went away ends the request
			}
		}
		w, err := s.wait(c, root, o)
		if err != nil {
			return err
		}
		return line(w)
	})
}

func waitedToWire(w Waited) (waitedJSON, error) {
	j, err := statusToWire(w.Status)
	return waitedJSON{w.Root.String(), j}, err
}

func (s *Server) held(c *call) error {
	all, err := s.replicated().Held(c.r.Context())
	if err != nil {
		return err
	}
	return c.lines(func(l *lineWriter) error {
		for _, h := range all {
			if err := l.line(heldJSON{h.Root.String(), h.State, h.Have, h.Min, h.Max}); err != nil {
				return err
			}
		}
		return nil
	})
}

// wait ends with the daemon, too.
func (s *Server) wait(c *call, root cid.Cid, o WaitOptions) (Waited, error) {
	ctx, done := c.untilStopped()
	defer done()
	return s.replicated().Wait(ctx, root, o)
}

// untilStopped is a request's context that ends when the server is told to stop, too: who stops the daemon does not
// wait for what may take long.
func (c *call) untilStopped() (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	go func() {
		select {
		case <-c.server.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
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
