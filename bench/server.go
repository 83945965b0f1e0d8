package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A server is a program that runs until it is told to end. Its owner stops it.
type server struct {
	cmd     *exec.Cmd
	printed *os.File // also held by what it has started, which may outlive it
	copied  sync.WaitGroup
}

// startServer starts a program and returns once a line that it prints contains ready.
func startServer(cmd *exec.Cmd, ready string) (*server, error) {
	printed, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		printed.Close()
		return nil, err
	}
	s := &server{cmd: cmd, printed: printed}
	lines := bufio.NewReader(printed)
	var said strings.Builder
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s ended before it was ready: %w\n%s", strings.Join(cmd.Args, " "), err, tail(said.String())), s.stop())
		}
		if strings.Contains(line, ready) {
			break
		}
	}
	s.copied.Go(func() { _, _ = io.Copy(io.Discard, lines) })
	return s, nil
}

// stop ends the program and waits for it.
func (s *server) stop() error {
	err := s.cmd.Process.Signal(os.Interrupt)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	kill := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	waitErr := s.cmd.Wait()
	_ = s.printed.Close()
	s.copied.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](waitErr); ok && exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		waitErr = nil // how it ends after an interrupt says nothing
	}
	return errors.Join(err, waitErr)
}

// cpuTime is the CPU a process used since its start.
func cpuTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := statTimes(string(stat), 2)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}

// statTimes is the sum of the first n of four times in the text of a process's stat: its own as user and as system, and
// those of children that it has waited for.
func statTimes(stat string, n int) (sum time.Duration, err error) {
	// proc_pid_stat(5): the times are fields 14 to 17, in ticks of 10 ms; the name, field 2, is in brackets.
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("%q is too short", stat)
	}
	for _, f := range fields[11 : 11+n] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum, nil
}
