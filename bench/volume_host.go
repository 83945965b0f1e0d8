package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// host is volary with its daemon, in a home of its own.
type host struct {
	bin, home string
	env       []string
	daemon    *server // nil while it does not run
	mounts    map[string]bool
}

// newHost makes the state, with arguments for init, and starts the daemon.
func newHost(ctx context.Context, bin, home string, args ...string) (*host, error) {
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, err
	}
	h := &host{bin: bin, home: home, env: environment(home, "VOLARY_HOME="+home), mounts: map[string]bool{}}
	if _, err := h.run(ctx, append([]string{"init"}, args...)...); err != nil {
		return nil, err
	}
	return h, h.start(ctx)
}

// start starts the daemon. It outlives ctx: what it mounted is unmounted before it is stopped.
func (h *host) start(ctx context.Context) error {
	var err error
	h.daemon, err = startServer(command(context.WithoutCancel(ctx), h.env, h.bin, "daemon"), "listening")
	return err
}

func (h *host) stop() error {
	if h.daemon == nil {
		return nil
	}
	s := h.daemon
	h.daemon = nil
	return s.stop()
}

// close unmounts what is mounted and stops the daemon.
func (h *host) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	for name := range h.mounts {
		err = errors.Join(err, h.umount(ctx, name))
	}
	return errors.Join(err, h.stop(), detachBelow(h.home))
}

func (h *host) run(ctx context.Context, args ...string) (string, error) {
	return quietly(command(ctx, h.env, h.bin, args...))
}

// create makes a volume, of a snapshot or empty, whose changes become commits only when asked to.
func (h *host) create(ctx context.Context, name, root string, options ...string) error {
	args := []string{"volume", "create", name, "-o", "commit=manual"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	if root != "" {
		args = append(args, "--from", root)
	}
	_, err := h.run(ctx, args...)
	return err
}

func (h *host) mount(ctx context.Context, name string) (dir string, err error) {
	dir, err = h.run(ctx, "volume", "mount", name)
	if err == nil {
		h.mounts[name] = true
	}
	return dir, err
}

func (h *host) umount(ctx context.Context, name string) error {
	delete(h.mounts, name)
	_, err := h.run(ctx, "volume", "umount", name)
	return err
}

// umountAll unmounts every volume.
func (h *host) umountAll(ctx context.Context) error {
	for name := range h.mounts {
		if err := h.umount(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) commit(ctx context.Context, name string) (root string, err error) {
	return h.run(ctx, "volume", "commit", name)
}

// stored is how many bytes of blocks the store has.
func (h *host) stored(ctx context.Context) (int64, error) {
	out, err := h.run(ctx, "status", "--json")
	if err != nil {
		return 0, err
	}
	var status struct {
		Bytes *int64 `json:"bytes"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.Bytes == nil {
		return 0, fmt.Errorf("volary status --json printed %q, which has no bytes", tail(out))
	}
	return *status.Bytes, nil
}

// reread makes a fresh daemon serve a volume from a new mount, so that neither has anything of it in memory.
func (h *host) reread(ctx context.Context, name string) (dir string, err error) {
	if err := h.umountAll(ctx); err != nil {
		return "", err
	}
	if err := errors.Join(h.stop(), h.start(ctx)); err != nil {
		return "", err
	}
	if err := resetPeak(h.daemon.cmd.Process.Pid); err != nil {
		return "", err
	}
	return h.mount(ctx, name)
}
