//go:build real

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/volary/volary/pinset/cluster/clustertest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// ownNetwork is set for a test binary that runs one test in a network namespace of its own.
const ownNetwork = "VOLARY_TEST_NETWORK"

func isolate() {
	if os.Getenv(ownNetwork) != "" {
		clustertest.Isolate()
	}
}

// alone runs the calling test again where there is nothing but loopback. It returns false in the program that is not
// there, which has nothing else to do.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownNetwork) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), ownNetwork+"=yes")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// Who may use the cluster of the tests, and the Kubo daemon that wants to know.
const (
	testUser     = "volary"
	testPassword = "secret"
)

// startCluster runs two peers until the end of the test.
func startCluster(t *testing.T, user, password string) *clustertest.Cluster {
	t.Helper()
	c, err := clustertest.Start(t.Context(), clustertest.Options{
		Dir: t.TempDir(), Peers: 2, Subnet: 11, Min: 1, Max: 2, User: user, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestClusterScripts runs the sessions of several hosts, one after the other: they stop daemons that they share.
//
// A session has KUBO1, CLUSTER1, CTL1 and so on of the peers, AUTH, the file with the cluster's credentials, and LOCKED, a
// Kubo daemon that asks for the same ones.
func TestClusterScripts(t *testing.T) {
	if !alone(t) {
		return
	}
	c := startCluster(t, testUser, testPassword)
	locked := kubotest.Start(t, kubotest.Options{Config: map[string]any{"API.Authorizations": map[string]any{
		"test": map[string]any{"AuthSecret": "basic:" + testUser + ":" + testPassword, "AllowedPaths": []string{"/api/v0"}},
	}}})
	api, err := locked.API()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/cluster/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p := params()
			p.Files = []string{file}
			p.Cmds["node"] = nodeCommand(c)
			setup := p.Setup
			p.Setup = func(env *testscript.Env) error {
				env.Setenv("AUTH", filepath.Join(env.WorkDir, ".auth"))
				env.Setenv("LOCKED", api)
				env.Setenv("BASIC", testUser+":"+testPassword)
				for i, n := range c.Nodes {
					env.Setenv(fmt.Sprint("KUBO", i+1), n.RPC())
					env.Setenv(fmt.Sprint("CLUSTER", i+1), n.REST())
					env.Setenv(fmt.Sprint("CTL", i+1), n.CTL())
				}
				if err := os.WriteFile(env.Getenv("AUTH"), []byte(testUser+":"+testPassword+"\n"), 0o600); err != nil {
					return err
				}
				return setup(env)
			}
			testscript.Run(t, p)
		})
	}
}

// nodeCommand is node stop|start kubo|cluster N. What was started is ready when it returns.
func nodeCommand(c *clustertest.Cluster) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		n := 0
		if len(args) == 3 {
			n, _ = strconv.Atoi(args[2])
		}
		if neg || n < 1 || n > len(c.Nodes) {
			ts.Fatalf("usage: node stop|start kubo|cluster N")
		}
		d := map[string]*clustertest.Daemon{"kubo": c.Nodes[n-1].Kubo, "cluster": c.Nodes[n-1].Service}[args[1]]
		switch args[0] {
		case "stop":
			ts.Check(d.Stop())
		case "start":
			ts.Check(d.Start())
			ctx, done := context.WithTimeout(context.Background(), time.Minute)
			defer done()
			ts.Check(c.Ready(ctx, c.Nodes...))
		default:
			ts.Fatalf("node %s", args[0])
		}
	}
}
