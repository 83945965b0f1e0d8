package main

import (
	"errors"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume/holder"
)

const holderName = "holder"

// holderSocket is where mounts are kept while the daemon is away, in a home.
const holderSocket = "holder.sock"

// holderCommand is what the daemon starts to have its mounts outlive it. What it logs goes nowhere unless it is started by hand.
func holderCommand() *cli.Command {
	return &cli.Command{Name: holderName, Hidden: true, Action: func(c *cli.Context) error {
		h, err := openHome(c, false)
		if err != nil {
			return err
		}
		ready := os.NewFile(3, "ready")
		log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
		err = holder.Hold(c.Context, h.path(holderSocket), holder.HoldOptions{Logger: log, Ready: func() {
			ready.Write([]byte{1})
			ready.Close()
		}})
		if errors.Is(err, holder.ErrRunning) {
			return nil
		}
		return err
	}}
}

// holderOf is the client of a home's holder, which starts one if there is none.
func holderOf(h *home) (*holder.Client, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &holder.Client{Socket: h.path(holderSocket), Command: []string{exe, "--home", h.dir, holderName}}, nil
}
