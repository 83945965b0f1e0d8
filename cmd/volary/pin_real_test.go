//go:build real

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volary/volary/pinset/cluster/clustertest"
)

// pinNetwork is set for a test binary that goes on in a network namespace of its own.
const pinNetwork = "VOLARY_TEST_PIN_NETWORK"

func TestPinWaitNamesThePeerThatWasKilled(t *testing.T) {
	if os.Getenv(pinNetwork) == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
		cmd.Env = append(os.Environ(), pinNetwork+"=yes")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	clustertest.Isolate()
	c, err := clustertest.Start(t.Context(), clustertest.Options{Dir: t.TempDir(), Subnet: 12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("VOLARY_HOME", filepath.Join(t.TempDir(), "state"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	volary := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"volary"}, args...), &out, &errs); code != want {
			t.Fatalf("volary %q: exit code %d, want %d\n%s%s", args, code, want, &out, &errs)
		}
		return out.String(), errs.String()
	}
	volary(exitOK, "init", "--kubo", c.Nodes[0].RPC(), "--cluster", c.Nodes[0].REST(), "--replicas", "2-3")
	root, _ := volary(exitOK, "snapshot", "--wait", "replicas=3", dir)
	root = strings.TrimSpace(root)
	if out, _ := volary(exitOK, "pin", "status", root); !strings.HasPrefix(out, root+"  pinned, 3 replicas of 2-3\n") {
		t.Errorf("status of what has all its replicas:\n%s", out)
	}
	if err := c.Nodes[2].Kill(); err != nil {
		t.Fatal(err)
	}
	volary(exitOK, "pin", "wait", root, "--replicas", "2")
	_, lag := volary(exitIncomplete, "pin", "wait", root, "--replicas", "3", "--timeout", "8s")
	if !strings.Contains(lag, "2 of 3 replicas") || !strings.Contains(lag, "peer-3: ") && !strings.Contains(lag, c.Nodes[2].ID+": ") {
		t.Errorf("who lags is not said: %s", lag)
	}
	volary(exitOK, "pin", "rm", root)
	volary(exitNotFound, "pin", "wait", root, "--timeout", "30s")
}
