package nettest

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Process is something beside the daemon that runs on a host until it is told to end, or the host ends.
type Process struct {
	h     *Host
	name  string
	proc  *os.Process
	ended chan struct{}
}

// Run starts a command that goes on running. What it says is appended to the file NAME.log in the host's Dir.
func (h *Host) Run(name string, command ...string) *Process {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.Dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	h.must(err)
	defer log.Close()
	cmd := h.command(context.Background(), command...)
	cmd.Stdout, cmd.Stderr = log, log
	h.must(h.start(cmd))
	p := &Process{h: h, name: name, proc: cmd.Process, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	h.t.Cleanup(func() {
		if h.t.Failed() {
			said, _ := os.ReadFile(log.Name())
			h.t.Logf("%s of %s:\n%s", name, h.Name, said[max(0, len(said)-8<<10):])
		}
	})
	return p
}

// End sends a signal, and waits until the process has ended.
func (p *Process) End(s syscall.Signal) {
	p.h.t.Helper()
	p.h.must(p.proc.Signal(s))
	select {
	case <-p.ended:
	case <-time.After(readyTime):
		p.h.t.Fatalf("host %s: %s does not end by %s", p.h.Name, p.name, s)
	}
}
