package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/volary/volary/volume"
)

func (s *Server) volumeRoutes() {
	s.handleVolumes("GET "+prefix+"/volumes", (*call).listVolumes)
	s.handleVolumes("GET "+prefix+"/volumes/{name}", (*call).inspectVolume)
	s.handleVolumes("GET "+prefix+"/resolve", (*call).resolve)
	s.handleVolumes("GET "+prefix+"/watch", (*call).watch)
	s.handleVolumes("POST "+prefix+"/volumes/do/{operation}", (*call).doVolumes)
	s.handle("GET "+prefix+"/signed", s.signed)
}

// handleVolumes adds a route of a host that has volumes.
func (s *Server) handleVolumes(pattern string, h func(*call, Volumes) error) {
	s.handle(pattern, func(c *call) error {
		if s.host.Volumes == nil {
			return fmt.Errorf("this daemon has no volumes: %w", ErrRequest)
		}
		return h(c, s.host.Volumes)
	})
}

func (c *call) listVolumes(vs Volumes) error {
	var o volume.ListOptions
	var err error
	if o.Trash, err = c.flag("trash"); err != nil {
		return err
	}
	if o.Dirty, err = c.flag("dirty"); err != nil {
		return err
	}
	infos, err := vs.List(c.r.Context(), o)
	if err != nil {
		return err
	}
	return c.lines(func(l *lineWriter) error {
		for _, i := range infos {
			if err := l.line(i); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *call) inspectVolume(vs Volumes) error {
	i, err := vs.Inspect(c.r.Context(), c.r.PathValue("name"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, i)
}

func (c *call) resolve(vs Volumes) error {
	id, err := vs.Resolve(c.r.Context(), c.r.URL.Query().Get("ref"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, resolvedJSON{volume.CID{Cid: id}})
}

// watch answers with a line for each news, until the caller goes or the daemon ends.
func (c *call) watch(vs Volumes) error {
	o := volume.WatchOptions{Names: c.r.URL.Query()["name"]}
	var err error
	if o.Exist, err = c.flag("exist"); err != nil {
		return err
	}
	if o.Current, err = c.flag("current"); err != nil {
		return err
	}
	ctx, done := c.untilStopped()
	defer done()
	return c.lines(func(l *lineWriter) error {
		if err := l.flush(); err != nil { // so that the caller knows that it is watching
			return err
		}
		for n, err := range vs.Watch(ctx, o) {
			if err != nil {
				return cmp.Or(context.Cause(ctx), err)
			}
			if err := errors.Join(l.line(n), l.flush()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) signed(c *call) error {
	heads := s.host.Heads
	if heads == nil {
		heads = noHeads{}
	}
	signed, err := heads.Signed(c.r.Context(), c.r.URL.Query().Get("volume"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, signed)
}

type resolvedJSON struct {
	CID volume.CID `json:"cid"`
}

func (c *call) doVolumes(vs Volumes) error {
	op, err := volume.NewOperation(c.r.PathValue("operation"))
	if err != nil {
		return err
	}
	if err := c.decode(op); err != nil {
		return err
	}
	if volume.HasHooks(op) && c.peer.UID != 0 {
		return fmt.Errorf("only root may have the daemon run commands: %w", fs.ErrPermission)
	}
	if mount, ok := op.(*volume.Mount); ok && strings.HasPrefix(mount.User, volume.DirUser) && c.peer.UID != 0 {
		return fmt.Errorf("only root may show a volume at a directory of the host: %w", fs.ErrPermission)
	}
	if clone, ok := op.(*volume.Clone); ok {
		clone.WithoutHooks = c.peer.UID != 0
	}
	res, err := vs.Do(c.r.Context(), op)
	if err != nil {
		return err
	}
	name := ""
	if res.Volume != nil {
		name = res.Volume.Name
	}
	c.log("volume "+volume.OperationName(op), logName, name, logRoot, res.Commit)
	return c.json(http.StatusOK, res)
}
