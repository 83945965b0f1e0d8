package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/volume"
)

func shareCommand() *cli.Command {
	return command(cli.Command{
		Name:      "share",
		Usage:     "print what others need to read a volume or a snapshot",
		ArgsUsage: "VOLUME|REF",
		Description: "Prints the CIDs of the snapshot and of its files, of a volume the name that it has in IPFS, where this host is\n" +
			"reached, and commands to be run elsewhere: by hosts of other namespaces, and with any IPFS program. Nothing of\n" +
			"that is secret, and nothing is changed. What is not committed is not in it.",
		Action: onHost(readOnly, share),
	}, 1, 1)
}

type shareJSON struct {
	Root      string   `json:"root"`           // the snapshot
	Tree      string   `json:"tree"`           // its files alone, for any IPFS program
	IPNS      string   `json:"ipns,omitempty"` // of a volume
	Published bool     `json:"published"`      // others can find out where that is
	Gateways  []string `json:"gateways"`       // URLs of this host
	Peers     []string `json:"peers"`          // addresses of this host
	Private   bool     `json:"private"`        // which only hosts with the swarm's key can connect to
	Kubo      string   `json:"kubo,omitempty"` // RPC of the daemon that has the blocks
	Volary    []string `json:"volary"`         // commands
	IPFS      []string `json:"ipfs"`           // commands

	notes []string
}

func share(c *cli.Context, host *openedHost) error {
	ref := c.Args().First()
	t, err := openRef(c.Context, host.Host, ref)
	if err != nil {
		return err
	}
	if t.path != "" {
		return usagef("%s is a part of a snapshot; share the whole one", quote(ref))
	}
	j := shareJSON{Root: t.root.String(), Tree: t.root.String()}
	if t.Commit != nil {
		j.Tree = t.Commit.Tree.String()
	}
	if err := j.setName(c, host, ref); err != nil {
		return err
	}
	if err := j.setAddresses(c, host); err != nil {
		return err
	}
	j.setCommands()
	for _, note := range j.notes {
		fmt.Fprintln(c.App.ErrWriter, note)
	}
	return outputOf(c).object(j, j.print)
}

// setName says what a volume is called in IPFS, if that is what ref names, and whether others can know where it is.
func (j *shareJSON) setName(c *cli.Context, host *openedHost, ref string) error {
	if _, err := cid.Decode(ref); err == nil || volume.CheckName(ref) != nil {
		return nil // a state of it, or none
	}
	s, err := host.Heads.Signed(c.Context, ref)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, volume.ErrInvalid) {
		return nil
	}
	if err != nil {
		return err
	}
	j.IPNS = "/ipns/" + s.Volume
	infos, err := host.Volumes.List(c.Context, volume.ListOptions{})
	for _, i := range infos {
		if i.ID == s.Volume {
			j.Published = isPublished(&i)
		}
	}
	if !j.Published {
		j.notes = append(j.notes, fmt.Sprintf("where %s is, only hosts of this namespace are told; to have everybody told: volary volume set %s publish=true", quote(ref), quote(ref)))
	}
	return err
}

// setAddresses says where this host is reached.
func (j *shareJSON) setAddresses(c *cli.Context, host *openedHost) error {
	j.Gateways, j.Peers = gatewayURLs(host.home.config.Gateway), host.home.reachedAt(c.Context)
	if host.home.config.Gateway == "" {
		j.notes = append(j.notes, "this host is no gateway; to make its daemon one: gateway = \"IP:PORT\" in config.toml")
	}
	j.Kubo = host.home.config.Kubo
	if j.Peers == nil {
		j.Peers = []string{}
		return nil
	}
	_, swarm, err := host.home.namespace()
	switch {
	case errors.Is(err, fs.ErrPermission):
		j.Private = true // who may not know better
	case err != nil:
		return err
	default:
		j.Private = swarm.Mode != namespace.SwarmNone
	}
	if j.Private && j.Kubo == "" && host.home.config.Gateway == "" {
		j.notes = append(j.notes, "until then it gives blocks to hosts in its private swarm only; elsewhere these commands find what others have")
	}
	return nil
}

// mostGateways of a host's addresses are told.
const mostGateways = 4

// gatewayURLs are where a gateway is reached that listens at an address, as far as that says it.
func gatewayURLs(listen string) []string {
	urls := []string{}
	ip, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return urls
	}
	ips := []string{ip}
	if parsed := net.ParseIP(ip); ip == "" || parsed != nil && parsed.IsUnspecified() {
		ips = machineIPs()
	}
	for _, ip := range ips[:min(len(ips), mostGateways)] {
		urls = append(urls, "http://"+net.JoinHostPort(ip, port))
	}
	return urls
}

// machineIPs are the addresses of the machine that others can reach; of one without a network those that only it can.
func machineIPs() (ips []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []string
	for _, a := range addrs {
		n, is := a.(*net.IPNet)
		switch {
		case !is:
		case n.IP.IsGlobalUnicast():
			ips = append(ips, n.IP.String())
		case n.IP.IsLoopback():
			own = append(own, n.IP.String())
		}
	}
	if len(ips) == 0 {
		return own
	}
	return ips
}

func (j *shareJSON) setCommands() {
	from := ""
	for _, url := range j.Gateways {
		from += " --gateway " + url
	}
	j.Volary = append(j.Volary, "volary pull "+j.Root+from)
	if j.Published {
		j.Volary = append(j.Volary, "volary pull "+j.IPNS+from)
	}
	if !j.Private {
		for _, p := range j.Peers {
			j.IPFS = append(j.IPFS, "ipfs swarm connect "+p)
		}
	}
	j.IPFS = append(j.IPFS, "ipfs get /ipfs/"+j.Tree)
	for _, url := range j.Gateways {
		j.IPFS = append(j.IPFS, fmt.Sprintf("curl -o files.car '%s/ipfs/%s?format=car'", url, j.Tree))
	}
}

func (j shareJSON) print(w io.Writer) {
	t := columns(w)
	fmt.Fprintf(t, "snapshot\t%s\nfiles\t%s\n", j.Root, j.Tree)
	if j.IPNS != "" {
		known := "told within the namespace only"
		if j.Published {
			known = "published"
		}
		fmt.Fprintf(t, "name\t%s (%s)\n", j.IPNS, known)
	}
	for _, url := range j.Gateways {
		fmt.Fprintf(t, "gateway\t%s\n", url)
	}
	private := ""
	if j.Private {
		private = " (private swarm)"
	}
	for _, p := range j.Peers {
		fmt.Fprintf(t, "peer\t%s%s\n", p, private)
	}
	if j.Kubo != "" {
		fmt.Fprintf(t, "kubo\t%s has the blocks, for IPFS programs connected to it\n", quote(j.Kubo))
	}
	t.Flush()
	fmt.Fprintf(w, "\non a host of another namespace:\n  %s\nwith any IPFS program:\n  %s\n", strings.Join(j.Volary, "\n  "), strings.Join(j.IPFS, "\n  "))
}
