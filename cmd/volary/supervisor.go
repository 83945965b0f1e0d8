package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// supervisor is the service manager that started this process, if it wants to be told how the process does: sd_notify(3).
type supervisor struct {
	socket string        // empty: there is none
	limit  time.Duration // without a word for so long it takes the process for stuck; 0: it does not care
}

// What a supervisor is told.
const (
	isReady    = "READY=1"
	isStopping = "STOPPING=1"
	isAlive    = "WATCHDOG=1"
)

// openSupervisor takes what the environment says of it out of there: what this process starts is not to speak for it.
func openSupervisor() (supervisor, error) {
	s := supervisor{socket: os.Getenv("NOTIFY_SOCKET")}
	limit, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, v := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(v); err != nil {
			return s, err
		}
	}
	if limit == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return s, nil
	}
	µs, err := strconv.ParseInt(limit, 10, 64)
	if err != nil || µs <= 0 || time.Duration(µs) > time.Duration(1<<63-1)/time.Microsecond {
		return s, usagef("WATCHDOG_USEC is %q, and no time in microseconds", limit)
	}
	s.limit = time.Duration(µs) * time.Microsecond
	return s, nil
}

// tell does not wait: a supervisor that does not listen is not the service's trouble.
func (s supervisor) tell(state string) error {
	if s.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// tellAlive says so until ctx is done, as often as is wanted.
func (s supervisor) tellAlive(ctx context.Context) {
	if s.limit == 0 {
		return
	}
	tick := time.NewTicker(max(s.limit/3, time.Millisecond))
	defer tick.Stop()
	for {
		// One that was not heard is followed by another.
		_ = s.tell(isAlive)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
