package main

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume/holder"
)

const holderName = "holder"

// holderSocket is where mounts are kept while the daemon is away, in a home.
const holderSocket = "holder.sock"

// holderRetry is how often one that stays looks whether another one has ended.
const holderRetry = time.Second

// holderCommand is what the daemon starts to have its mounts outlive it, or a service manager, so that it does not
// belong to the daemon. What it logs goes nowhere unless it is started by hand.
func holderCommand() *cli.Command {
	return &cli.Command{Name: holderName, Hidden: true, Flags: []cli.Flag{
		&cli.BoolFlag{Name: "stay", Usage: "until it is told to end, even if there is nothing to keep"},
	}, Action: func(c *cli.Context) error {
		if c.Bool("stay") {
			return stayHolder(c)
		}
		h, err := openHome(c, false)
		if err != nil {
			return err
		}
		ready := os.NewFile(3, "ready")
		err = holder.Hold(c.Context, h.path(holderSocket), holder.HoldOptions{Logger: holderLog(c), Ready: func() {
			ready.Write([]byte{1})
			ready.Close()
		}})
		if errors.Is(err, holder.ErrRunning) {
			return nil
		}
		return err
	}}
}

func holderLog(c *cli.Context) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
}

// stayHolder is a service. Where a daemon has started a holder already, which cannot hand over what it keeps, it waits
// for its end.
func stayHolder(c *cli.Context) error {
	manager, err := openSupervisor()
	if err != nil {
		return err
	}
	h, err := openHome(c, true)
	if err != nil {
		return err
	}
	log := holderLog(c)
	ready := sync.OnceFunc(func() {
		if err := manager.tell(isReady); err != nil {
			log.Error("ready", "error", err)
		}
	})
	for {
		err := holder.Hold(c.Context, h.path(holderSocket), holder.HoldOptions{Logger: log, Stay: true, Ready: ready})
		if !errors.Is(err, holder.ErrRunning) {
			return err
		}
		ready()
		select {
		case <-c.Context.Done():
			return nil
		case <-time.After(holderRetry):
		}
	}
}

// holderOf is the client of a home's holder, which starts one if there is none.
func holderOf(h *home) (*holder.Client, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &holder.Client{Socket: h.path(holderSocket), Command: []string{exe, "--home", h.dir, holderName}}, nil
}
