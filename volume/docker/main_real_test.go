//go:build real

package docker_test

import (
	"strings"
	"testing"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/volume/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

const program = "../../bin/volary"

// engine is a host with an engine and a daemon that is its driver.
func engine(t *testing.T, n *nettest.Network, name string) *dockertest.Engine {
	t.Helper()
	h := n.Host(name)
	h.Volary("init", "--docker", dockertest.Socket)
	e := dockertest.Start(t, h)
	h.Start()
	return e
}

func alone(t *testing.T) *dockertest.Engine {
	t.Helper()
	return engine(t, nettest.New(t, program), "one")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func wantHas(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("%s: %q, want it to have %q", what, got, p)
		}
	}
}
