package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/docker/dockertest"
)

// atATime is how many containers are started at a time.
const atATime = 8

// oneHost is one on whose volumes many containers are started.
type oneHost struct {
	*stage
	e    *dockertest.Engine
	data dataset
	many int
}

// measureHundred starts many containers on one volume, each of which reads a file of it and goes on.
func (p *dockerPlan) measureHundred(s *stage, g dockerGroup) {
	h := &oneHost{s, dockertest.Together(s, p.tools.volary, "one")[0], p.sizes.small, p.sizes.containers}
	cid, plain := h.data.store(s, h.e)
	h.e.Docker("volume", "create", "local")
	h.e.Box("cp -a /plain/. /local", "-v", plain+":/plain:ro", "-v", "local:/local")
	p.eachTurn(g, func(who string, round int) {
		name := "local"
		if who == volumeName {
			name = fmt.Sprint("set-", round)
			h.e.Docker("volume", "create", "-d", dockertest.Driver, "-o", "from="+cid, "-o", "readonly=true", name)
		}
		unix.Sync()
		before := processorOf(s, h.e)
		took, err := timed(func() error { return h.start(name, round) })
		s.must(err)
		p.res.record(hundredRead, who, took)
		p.res.record(hundredProcessor, who, (processorOf(s, h.e) - before).Seconds())
		took, err = timed(func() error {
			_, err := h.e.Try(s.ctx, "sh", "-c", "docker rm -f $(docker ps -aq)")
			return err
		})
		s.must(err)
		p.res.record(hundredGone, who, took)
		if who == volumeName {
			h.e.Docker("volume", "rm", name)
		}
	})
}

// start starts the containers on a volume, and returns when each has read its file, which must be right.
func (h *oneHost) start(name string, round int) error {
	done := filepath.Join(h.e.Dir, fmt.Sprintf("done-%s-%d", name, round))
	if err := os.Mkdir(done, 0o755); err != nil {
		return err
	}
	numbers := make(chan int)
	failed := make(chan error, h.many)
	var work sync.WaitGroup
	for range atATime {
		work.Go(func() {
			for n := range numbers {
				line := fmt.Sprintf("sha256sum </v/%s >/done/.%d && mv /done/.%d /done/%d; exec sleep 10000", h.data.path(h.file(n)), n, n, n)
				if _, err := h.e.TryDocker(h.ctx, "run", "-d", "--network", "none", "-v", name+":/v:ro", "-v", done+":/done", dockertest.Image, "sh", "-c", line); err != nil {
					failed <- err
				}
			}
		})
	}
	for n := range h.many {
		numbers <- n
	}
	close(numbers)
	work.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return err
	}
	for n := range h.many {
		if err := h.hasRead(done, n); err != nil {
			return err
		}
	}
	return nil
}

// file is which one a container reads.
func (h *oneHost) file(n int) int { return n * h.data.all() / h.many }

// hasRead returns when a container has read its file.
func (h *oneHost) hasRead(done string, n int) error {
	const limit = time.Minute
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		sum, err := os.ReadFile(filepath.Join(done, fmt.Sprint(n)))
		switch {
		case err == nil && strings.HasPrefix(string(sum), h.data.sum(h.file(n))):
			return nil
		case err == nil:
			return fmt.Errorf("container %d has read another file", n)
		case time.Now().After(deadline):
			return fmt.Errorf("container %d has not read its file: %w", n, err)
		}
	}
}
