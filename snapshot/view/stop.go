package view

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
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

// Over reports whether the mount is no more, wherever it was visible. What was asked of it before may be under way here.
func (s *Server) Over() bool {
	raw, err := s.conn.Device.SyscallConn()
	if err != nil {
		return true
	}
	over := true // if the device is closed
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		for err = unix.EINTR; err == unix.EINTR; {
			_, err = unix.Poll(p, 0)
		}
		over = err == nil && p[0].Revents&unix.POLLERR != 0
	})
	return over
}
