package dockertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/pinset/cluster/clustertest"
)

// Main is the TestMain of a package whose tests have engines.
func Main(m *testing.M) {
	nettest.Main()
	clustertest.Isolate()
	os.Exit(m.Run())
}

// Together makes hosts of one namespace, each with an engine and a daemon that is its driver, and returns when all are
// connected. Commands on them find the program, at the path given, as volary, and docker its engine.
func Together(t testing.TB, program string, names ...string) (all []*Engine) {
	t.Helper()
	commands(t, program)
	n := nettest.New(t, program)
	for _, name := range names {
		h := n.Host(name)
		args := []string{"init", "--docker", Socket, "--listen", fmt.Sprint(h.IP, ":", nettest.Port)}
		for i, o := range all {
			if i == 0 {
				args = append(args, "--join", o.Volary("token"))
			}
			id := strings.TrimSpace(o.Do("cat", filepath.Join(o.Home, "peer-id")))
			args = append(args, "--peer", fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", o.IP, nettest.Port, id))
		}
		h.Volary(args...)
		e := Start(t, h)
		h.Start()
		all = append(all, e)
	}
	for _, e := range all {
		e.UntilVolary("the others are connected", func(out string) bool { return strings.Count(out, "connected") >= len(all)-1 }, "peers")
	}
	return all
}

// commands has commands that hosts run find volary and their engine.
func commands(t testing.TB, program string) {
	t.Helper()
	bin, err := filepath.Abs(filepath.Dir(program))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_HOST", address)
}
