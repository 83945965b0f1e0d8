package view

import (
	"errors"
	"time"
)

// Stop answers what it has begun to answer, and nothing after that: who uses the mount waits until another
// process has called Resume. So does who asked for what cannot be had within StopPatience.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	if f, ok := s.shown.(*follower); ok {
		f.leave()
	}
	answered := make(chan struct{})
	go func() {
		s.busy.Wait()
		close(answered)
	}()
	select {
	case <-answered:
		return
	case <-time.After(StopPatience):
	}
	// Once the kernel is to ask again it takes no answer to what it asked before.
	if err := s.again(); err == nil && s.shown != nil {
		s.shown.stop()
	} else if err != nil && !errors.Is(err, errNoResend) {
		s.log.Error("leave requests to the next server", logError, err)
	}
	<-answered
}

// StopPatience is how long a server that stops goes on with what it has begun to answer.
const StopPatience = 2 * time.Second
