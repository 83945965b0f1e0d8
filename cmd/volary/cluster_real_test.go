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

// startCluster runs peers until the end of the test.
func startCluster(t *testing.T, peers int, user, password string) *clustertest.Cluster {
	t.Helper()
	c, err := clustertest.Start(t.Context(), clustertest.Options{
		Dir: t.TempDir(), Peers: peers, Subnet: 11, Min: 1, Max: 2, User: user, Password: password,
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
func TestClusterScripts(t *testing.T) {
	if alone(t) {
		clusterScripts(t, startCluster(t, 2, testUser, testPassword), "testdata/cluster/*.txtar")
	}
}

// TestFaultScripts runs sessions in which servers are killed, stall, and damage what they have.
func TestFaultScripts(t *testing.T) {
	if alone(t) {
		clusterScripts(t, startCluster(t, 3, testUser, testPassword), "testdata/faults/*.txtar")
	}
}

// clusterScripts runs sessions, one after the other. A session has KUBO1, CLUSTER1, CTL1 and so on of the peers, AUTH, the
// file with the cluster's credentials, and LOCKED, a Kubo daemon that asks for the same ones; ctl1 and kubo1 are
// ipfs-cluster-ctl and ipfs for the first peer.
func clusterScripts(t *testing.T, c *clustertest.Cluster, pattern string) {
	locked := kubotest.Start(t, kubotest.Options{Config: map[string]any{"API.Authorizations": map[string]any{
		"test": map[string]any{"AuthSecret": "basic:" + testUser + ":" + testPassword, "AllowedPaths": []string{"/api/v0"}},
	}}})
	api, err := locked.API()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p := params()
			p.Files = []string{file}
			p.Cmds["node"] = nodeCommand(c)
			p.Cmds["proxy"] = proxyCommand(c)
			p.Cmds["damage"] = damageCommand(c)
			setup := p.Setup
			p.Setup = func(env *testscript.Env) error {
				env.Setenv("AUTH", filepath.Join(env.WorkDir, ".auth"))
				env.Setenv("LOCKED", api)
				env.Setenv("BASIC", testUser+":"+testPassword)
				bin := filepath.Join(env.WorkDir, ".bin")
				env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
				if err := os.Mkdir(bin, 0o755); err != nil {
					return err
				}
				for i, n := range c.Nodes {
					env.Setenv(fmt.Sprint("KUBO", i+1), n.RPC())
					env.Setenv(fmt.Sprint("CLUSTER", i+1), n.REST())
					env.Setenv(fmt.Sprint("CTL", i+1), n.CTL())
					env.Setenv(fmt.Sprint("KUBOID", i+1), n.KuboID)
					for name, line := range map[string]string{
						"ctl":  "ipfs-cluster-ctl --force-http --basic-auth " + testUser + ":" + testPassword + " --host " + n.CTL(),
						"kubo": "ipfs --api " + n.RPC(),
					} {
						text := "#!/bin/sh\nexec " + line + " \"$@\"\n"
						if err := os.WriteFile(fmt.Sprint(bin, "/", name, i+1), []byte(text), 0o755); err != nil {
							return err
						}
					}
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

// nodeCommand is node VERB kubo|cluster|both N...: stop, kill, freeze, thaw or start. What was started or thawed is ready
// when it returns.
func nodeCommand(c *clustertest.Cluster) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 3 {
			ts.Fatalf("usage: node stop|kill|freeze|thaw|start kubo|cluster|both N...")
		}
		for _, arg := range args[2:] {
			n := nodeOf(ts, c, arg)
			d := map[string]process{"kubo": n.Kubo, "cluster": n.Service, "both": n}[args[1]]
			do := map[string]func() error{"stop": d.Stop, "kill": d.Kill, "freeze": d.Freeze, "thaw": d.Thaw, "start": d.Start}[args[0]]
			ts.Check(do())
		}
		if args[0] == "start" || args[0] == "thaw" {
			ctx, done := context.WithTimeout(context.Background(), time.Minute)
			defer done()
			ts.Check(c.Ready(ctx, c.Nodes...))
		}
	}
}

// process is a server, or all of a node.
type process interface {
	Stop() error
	Kill() error
	Freeze() error
	Thaw() error
	Start() error
}

func nodeOf(ts *testscript.TestScript, c *clustertest.Cluster, number string) *clustertest.Node {
	n, _ := strconv.Atoi(number)
	if n < 1 || n > len(c.Nodes) {
		ts.Fatalf("there is no node %s", number)
	}
	return c.Nodes[n-1]
}
