package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/docker/dockertest"
)

// stage is what [dockertest] and [nettest] take for a test: what they make ends with it, and what goes wrong in them ends
// what is done on it. It has those methods of a test that they call.
type stage struct {
	testing.TB // nil

	ctx  context.Context
	dir  string
	dirs int
	undo []func()

	mu     sync.Mutex
	failed error
}

// onStage calls do, and returns what went wrong in it or in taking away what it made. What is stored meanwhile is below dir,
// which does not exist before or after.
func onStage(ctx context.Context, dir string, do func(s *stage)) error {
	s := &stage{ctx: ctx, dir: dir}
	s.run(func() { do(s) })
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		f := s.undo[last]
		s.undo = s.undo[:last]
		s.run(f)
	}
	return errors.Join(s.failed, removeAll(dir))
}

// run has a goroutine of its own for what may be ended by Fatal.
func (s *stage) run(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	<-ended
}

// must ends what is done on the stage if there is an error.
func (s *stage) must(err error) {
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) Helper() {}

// Context ends when the whole run is interrupted.
func (s *stage) Context() context.Context { return s.ctx }

func (s *stage) Cleanup(f func()) { s.undo = append(s.undo, f) }

func (s *stage) TempDir() string {
	s.dirs++
	dir := filepath.Join(s.dir, fmt.Sprint(s.dirs))
	s.must(os.MkdirAll(dir, 0o755))
	return dir
}

func (s *stage) Setenv(key, value string) {
	before, had := os.LookupEnv(key)
	s.must(os.Setenv(key, value))
	s.Cleanup(func() {
		if had {
			s.must(os.Setenv(key, before))
		} else {
			s.must(os.Unsetenv(key))
		}
	})
}

func (s *stage) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed != nil
}

func (s *stage) Fatal(args ...any) {
	s.fail(fmt.Sprint(args...))
	runtime.Goexit()
}

func (s *stage) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

func (s *stage) Errorf(format string, args ...any) { s.fail(fmt.Sprintf(format, args...)) }

func (s *stage) Logf(format string, args ...any) { progress(format, args...) }

func (s *stage) fail(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = errors.Join(s.failed, errors.New(strings.TrimSpace(text)))
}

// processorOf is what all that ever ran on a host has taken of the processor, and the commands that were run there.
func processorOf(s *stage, e *dockertest.Engine) time.Duration {
	var sum time.Duration
	for line := range strings.Lines(e.Sh("cat /proc/[0-9]*/stat 2>/dev/null || true")) {
		n, err := statTimes(line, 4)
		s.must(err)
		sum += n
	}
	var u unix.Rusage
	s.must(unix.Getrusage(unix.RUSAGE_CHILDREN, &u))
	return sum + time.Duration(u.Utime.Nano()+u.Stime.Nano())
}

// rotated is a list that begins with another one in each round.
func rotated(all []string, round int) []string {
	n := round % len(all)
	return slices.Concat(all[n:], all[:n])
}
