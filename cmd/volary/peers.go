package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume/api"
)

func peersCommand() *cli.Command {
	return command(cli.Command{
		Name:  "peers",
		Usage: "list the hosts of the namespace that this one is connected to",
		Description: "And those that it is to be connected to (peers in config.toml), with why it is not. --all also lists those\n" +
			"that it was told of and cannot reach. Latencies are moving averages.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "also those that are neither connected nor configured"}},
		Action: onHost(readOnly, listPeers),
	}, 0, 0)
}

func listPeers(c *cli.Context, host *openedHost) error {
	all, err := host.Network.Peers(c.Context)
	if err != nil {
		return err
	}
	st, err := host.Network.State(c.Context)
	switch {
	case err == nil && st.Error != "":
		fmt.Fprintln(c.App.ErrWriter, "this host is not in the network:", st.Error)
	case len(all) == 0:
		fmt.Fprintln(c.App.ErrWriter, "no other host is connected, and none is configured: `volary token` prints what is to be run there")
	}
	out := outputOf(c)
	w := columns(out.w)
	defer w.Flush()
	for _, p := range all {
		if !p.Connected && !p.Configured && !c.Bool("all") {
			continue
		}
		err := output{w, out.json}.object(p, func(w io.Writer) { peerText(w, p) })
		if err != nil {
			return err
		}
	}
	return nil
}

func peerText(w io.Writer, p api.NetworkPeer) {
	if !p.Connected {
		why := p.Error
		if why == "" {
			why = "not tried yet"
		}
		fmt.Fprintf(w, "%s\taway\t\t%s\n", p.ID, quote(why))
		return
	}
	latency := ""
	if p.Latency > 0 {
		latency = p.Latency.Round(10 * time.Microsecond).String()
	}
	how := "connected"
	if p.Configured {
		how += ", configured"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\n", p.ID, how, latency, p.Direction, strings.Join(p.Addrs, " "), quote(p.Agent))
}
