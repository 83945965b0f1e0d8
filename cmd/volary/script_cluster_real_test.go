//go:build real

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestScriptsWithACluster runs the sessions of one host once more, with its blocks in a Kubo daemon and its pins in a
// cluster. They share both; each makes a namespace of its own.
func TestScriptsWithACluster(t *testing.T) {
	if !alone(t) {
		return
	}
	c := startCluster(t, 2, "", "")
	for file := range aboutPacks {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("a session that is left out: %v", err)
		}
	}
	// The sessions end before this, and after this the cluster.
	t.Cleanup(func() {
		out, err := exec.Command("ipfs-cluster-ctl", "--host", c.Nodes[1].CTL(), "pin", "ls").CombinedOutput()
		if pins := strings.Count(string(out), "\n"); err != nil || pins == 0 {
			t.Errorf("the cluster has %d pins of all these sessions, %v", pins, err)
		}
	})
	scripts(t, behind{c.Nodes[0].RPC(), c.Nodes[0].REST()}, "testdata/script", "testdata/real")
}
