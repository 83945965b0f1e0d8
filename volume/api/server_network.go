package api

import "net/http"

func (s *Server) networkRoutes() {
	s.handle("GET "+prefix+"/network", s.networkState)
	s.handle("GET "+prefix+"/peers", s.networkPeers)
}

func (s *Server) network() Network {
	if s.host.Network == nil {
		return noNetwork{}
	}
	return s.host.Network
}

func (s *Server) networkState(c *call) error {
	st, err := s.network().State(c.r.Context())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, st)
}

func (s *Server) networkPeers(c *call) error {
	all, err := s.network().Peers(c.r.Context())
	if err != nil {
		return err
	}
	return c.lines(func(l *lineWriter) error {
		for _, p := range all {
			if err := l.line(p); err != nil {
				return err
			}
		}
		return nil
	})
}
