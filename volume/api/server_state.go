package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

func (s *Server) routes() {
	s.handle("GET /version", s.version)
	s.mux.Handle("GET /metrics", s.metrics.handler(s.log))

	s.handle("GET "+prefix+"/blocks/{cid}", s.getBlock)
	s.handle("HEAD "+prefix+"/blocks/{cid}", s.headBlock)
	s.handle("DELETE "+prefix+"/blocks/{cid}", s.dropBlock)
	s.handle("POST "+prefix+"/blocks", s.putBlocks)
	s.handle("POST "+prefix+"/blocks/get", s.getMany)
	s.handle("POST "+prefix+"/blocks/bring", s.bring)
	s.handle("POST "+prefix+"/blocks/has", s.has)
	s.handle("POST "+prefix+"/sync", s.sync)

	s.handle("POST "+prefix+"/sessions", s.openSession)
	s.handle("DELETE "+prefix+"/sessions/{id}", s.closeSession)
	s.handle("POST "+prefix+"/stat/load", s.loadStat)
	s.handle("POST "+prefix+"/stat/save", s.saveStat)
	s.handle("POST "+prefix+"/adopt", s.adopt)

	s.handle("GET "+prefix+"/pins", s.listPins)
	s.handle("GET "+prefix+"/pins/{cid}", s.statusOf(func(c *call, root cid.Cid) (pinset.Status, error) {
		return s.host.Pins.Status(c.r.Context(), root)
	}))
	s.handle("PUT "+prefix+"/pins/{cid}", s.addPin)
	s.handle("DELETE "+prefix+"/pins/{cid}", s.removePin)

	s.handle("GET "+prefix+"/tags", s.listTags)
	s.handle("PUT "+prefix+"/tags", s.setTag)
	s.handle("DELETE "+prefix+"/tags", s.removeTag)

	s.handle("GET "+prefix+"/own/{cid}", s.own)
	s.handle("PUT "+prefix+"/own/{cid}", s.markOwn)

	s.volumeRoutes()
	s.replicaRoutes()
	s.networkRoutes()

	s.handle("POST "+prefix+"/collect", s.collect)
	s.handle("GET "+prefix+"/status", s.status)

	s.handle("/", func(c *call) error {
		return fmt.Errorf("%s %s is not in version %d of the API: %w", c.r.Method, c.r.URL.Path, Version, ErrRequest)
	})
}

func (s *Server) listPins(c *call) error {
	return c.lines(func(l *lineWriter) error {
		for p, err := range s.host.Pins.All(c.r.Context()) {
			if err != nil {
				return err
			}
			j, err := pinToWire(p)
			if err != nil {
				return err
			}
			if err := l.line(j); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) addPin(c *call) error {
	root, err := c.pathCID()
	if err != nil {
		return err
	}
	var j pinJSON
	if err := c.decode(&j); err != nil {
		return err
	}
	if j.Root != "" && j.Root != root.String() {
		return fmt.Errorf("the body names the root %s: %w", j.Root, ErrRequest)
	}
	p := pinset.Pin{Root: root, Owner: j.Owner, Name: string(j.Name), Meta: metaFromWire(j.Meta), Created: j.Created}
	if err := c.within(); err != nil {
		return err
	}
	if err := s.host.Pins.Add(c.r.Context(), p); err != nil {
		return err
	}
	s.metrics.pinned.Inc()
	c.log("pinned", logRoot, root, logName, p.Name, logOwner, p.Owner)
	return c.done()
}

func (s *Server) removePin(c *call) error {
	root, err := c.pathCID()
	if err != nil {
		return err
	}
	owner := c.r.URL.Query().Get("owner")
	if err := s.host.Pins.Remove(c.r.Context(), root, owner); err != nil {
		return err
	}
	s.metrics.unpinned.Inc()
	c.log("unpinned", logRoot, root, logOwner, owner)
	return c.done()
}

func (s *Server) listTags(c *call) error {
	tags, err := s.host.Tags.Tags(c.r.Context())
	if err != nil {
		return err
	}
	return c.lines(func(l *lineWriter) error {
		for _, name := range slices.Sorted(maps.Keys(tags)) {
			if err := l.line(tagJSON{Name: text(name), Root: tags[name].String()}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *call) tagName() (string, error) {
	q := c.r.URL.Query()
	if !q.Has("name") {
		return "", fmt.Errorf("parameter name is missing: %w", ErrRequest)
	}
	return q.Get("name"), nil
}

func (s *Server) setTag(c *call) error {
	name, err := c.tagName()
	if err != nil {
		return err
	}
	root, err := parseCID(c.r.URL.Query().Get("root"))
	if err != nil {
		return err
	}
	if err := c.within(); err != nil {
		return err
	}
	if err := s.host.Tags.Tag(c.r.Context(), name, root); err != nil {
		return err
	}
	c.log("tagged", logRoot, root, logName, name)
	return c.done()
}

func (s *Server) removeTag(c *call) error {
	name, err := c.tagName()
	if err != nil {
		return err
	}
	if err := s.host.Tags.Untag(c.r.Context(), name); err != nil {
		return err
	}
	c.log("untagged", logName, name)
	return c.done()
}

func (s *Server) own(c *call) error {
	commit, err := c.pathCID()
	if err != nil {
		return err
	}
	own, err := s.host.Owners.OwnBy(c.r.Context(), commit, c.peer.UID)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, ownJSON{own})
}

func (s *Server) markOwn(c *call) error {
	commit, err := c.pathCID()
	if err != nil {
		return err
	}
	if err := c.within(); err != nil {
		return err
	}
	if err := s.host.Owners.MarkOwnBy(c.r.Context(), commit, c.peer.UID); err != nil {
		return err
	}
	c.log("marked as made here", logRoot, commit)
	return c.done()
}

func (s *Server) collect(c *call) error {
	dry, err := c.flag("dry_run")
	if err != nil {
		return err
	}
	if !dry {
		c.log("collection begins")
	}
	res, err := s.host.Upkeep.Collect(c.r.Context(), dry)
	if err != nil {
		return err
	}
	if !dry {
		s.metrics.collected(res)
		c.log("collection done", logRemovedBlocks, res.RemovedBlocks, logRemovedBytes, res.RemovedBytes)
	}
	return c.json(http.StatusOK, res)
}

func (s *Server) status(c *call) error {
	st, err := s.host.Upkeep.Status(c.r.Context())
	if err != nil {
		return err
	}
	st.Daemon = true
	if s.o.Version != "" {
		st.Version = s.o.Version
	}
	return c.json(http.StatusOK, st)
}
