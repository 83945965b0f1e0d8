// Package nettest has hosts for tests of what networks do to them: each in namespaces of its own, for the network,
// mounts and processes, and joined to the others by a bridge.
//
// Start with [Main], called first in TestMain of a program that is in a network namespace of its own already, and with
// [New]. A [Host] runs commands and a daemon, is cut off and joined again, and loses packets; [Network.Part] parts some
// hosts from the others, [Network.Relay] delays what they say to each other.
//
// It guarantees: hosts reach each other and nothing else; when the program that made them ends, killed or not, all their
// processes, mounts and interfaces end.
package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	// Port is where daemons listen.
	Port = 24001

	most = 200 // networks at a time
)

// Network is a bridge, and hosts at it. Several networks do not reach each other's hosts.
type Network struct {
	Here string // the address of the program that made it

	number int
	t      testing.TB
	bin    string // the program that hosts run
	dir    string
	hosts  []*Host
	apart  int // bridges for hosts that are parted
	lossy  int // of a hundred packets
}

// New makes a network without hosts, which ends with the test. The hosts' program is that file.
func New(t testing.TB, bin string) *Network {
	t.Helper()
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("%v; first: make build", err)
	}
	n := &Network{t: t, bin: bin, dir: t.TempDir()} // which outlives the hosts
	for n.number = 1; ; n.number++ {
		out, err := exec.Command("ip", "link", "add", n.bridge(0), "type", "bridge").CombinedOutput()
		if err == nil {
			break
		}
		if n.number == most {
			t.Fatalf("make a bridge: %v\n%s", err, out)
		}
	}
	t.Cleanup(n.close)
	n.Here = n.address(254)
	n.do("ip", "addr", "add", n.Here+"/24", "dev", n.bridge(0))
	n.do("ip", "link", "set", n.bridge(0), "up")
	return n
}

func (n *Network) bridge(i int) string { return fmt.Sprintf("n%d-bridge%d", n.number, i) }

func (n *Network) address(host int) string { return fmt.Sprintf("10.77.%d.%d", n.number, host) }

func (n *Network) close() {
	for _, h := range n.hosts {
		h.end()
	}
	if n.lossy > 0 {
		n.do(n.loss("-D", n.lossy, n.bridge(0))...)
	}
	for i := range n.apart + 1 {
		n.do("ip", "link", "del", n.bridge(i))
	}
}

// do runs a command beside the hosts.
func (n *Network) do(command ...string) {
	n.t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// Part has hosts hear only those of the same group from now on, and nobody else.
func (n *Network) Part(groups ...[]*Host) {
	n.t.Helper()
	for i, g := range groups {
		for n.apart <= i {
			n.apart++
			n.do("ip", "link", "add", n.bridge(n.apart), "type", "bridge")
			n.do("ip", "link", "set", n.bridge(n.apart), "up")
		}
		for _, h := range g {
			n.do("ip", "link", "set", h.link(), "master", n.bridge(i+1))
		}
	}
}

// Heal has all hosts hear each other again.
func (n *Network) Heal() {
	n.t.Helper()
	for _, h := range n.hosts {
		n.do("ip", "link", "set", h.link(), "master", n.bridge(0))
		n.do("ip", "link", "set", h.link(), "up")
	}
}

// CutAll takes all links down: no host has a network.
func (n *Network) CutAll() {
	n.t.Helper()
	for _, h := range n.hosts {
		h.Cut()
	}
}

// Isolate has hosts hear only the program that made them, where relays are, and no longer each other.
func (n *Network) Isolate() {
	n.t.Helper()
	for _, h := range n.hosts {
		n.do("ip", "link", "set", "dev", h.link(), "type", "bridge_slave", "isolated", "on")
	}
}

// Lose has all hosts, and the program that made them, lose so many of a hundred packets that come to them.
func (n *Network) Lose(percent int) {
	n.t.Helper()
	for _, h := range n.hosts {
		h.Do(n.loss("-A", percent, "eth0")...)
	}
	n.do(n.loss("-A", percent, n.bridge(0))...)
	n.lossy = percent
}

func (n *Network) loss(do string, percent int, in string) []string {
	return []string{"iptables", "-w", do, "INPUT", "-i", in, "-m", "statistic", "--mode", "random",
		"--probability", fmt.Sprintf("%.2f", float64(percent)/100), "-j", "DROP"}
}
