package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume/holder"
)

// holderEnd is how long what holds the mounts is waited for in the end.
const holderEnd = 5 * time.Second

// daemonRetry is how long after the end of a daemon there is another one.
const daemonRetry = time.Second

// pluginCommand is the first process of a managed plugin of the Docker engine. It keeps the mounts itself, and has a
// daemon all the time, which may end and be killed without them.
func pluginCommand() *cli.Command {
	return &cli.Command{Name: "plugin", Hidden: true, Action: func(c *cli.Context) error {
		h, err := openHome(c, true)
		if err != nil {
			return err
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		log := holderLog(c)
		ctx, end := context.WithCancel(c.Context)
		defer end()
		ready, held := make(chan struct{}), make(chan error, 1)
		go func() {
			// What it holds at the end of the plugin ends with this process.
			held <- holder.Hold(ctx, h.path(holderSocket), holder.HoldOptions{Logger: log, Stay: true, Ready: func() { close(ready) }})
			end()
		}()
		select {
		case err := <-held:
			return err
		case <-ready:
		}
		for {
			err := runUnder(ctx, exec.Command(exe, "--home", h.dir, "daemon", "--docker", dockerSocket))
			if ctx.Err() == nil {
				log.Error("the daemon ended, there will be another one", slog.Any("error", err))
			}
			select {
			case <-ctx.Done():
			case <-time.After(daemonRetry):
				continue
			}
			select {
			case failed := <-held:
				return errors.Join(failed, err)
			case <-time.After(holderEnd):
				return err
			}
		}
	}}
}

// runUnder runs a command, which is told to end when ctx is done.
func runUnder(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	return cmd.Wait()
}
