//go:build real

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// A Kubo daemon that is connected to a host reads a published volume by its name, and its next state.
func TestAKuboDaemonReadsAPublishedVolume(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{Config: map[string]any{"Ipns.UsePubsub": true, "Pubsub.Enabled": true}})
	at, err := d.SwarmAddr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Processes of their own: what one has open is closed with it.
	volary := func(args ...string) string {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "volary", args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("volary %q: %v\n%s", args, err, &stderr)
		}
		return strings.TrimSpace(string(out))
	}
	dir := t.TempDir()
	t.Setenv("VOLARY_HOME", filepath.Join(dir, "state"))
	snapshot := func(content string) string {
		if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "files", "f"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return volary("snapshot", filepath.Join(dir, "files"))
	}
	volary("init", "--swarm-key", "none", "--peer", at)
	one, two := snapshot("one"), snapshot("two")
	volary("volume", "create", "data", "--from", one, "-o", "publish=true")
	var info struct{ ID string }
	if err := json.Unmarshal([]byte(volary("volume", "inspect", "data", "--json")), &info); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	daemon := exec.Command("volary", "daemon")
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		daemon.Process.Signal(syscall.SIGTERM)
		if err := daemon.Wait(); err != nil || t.Failed() {
			t.Errorf("the daemon: %v\n%s", err, &log)
		}
	}()
	for _, step := range []struct {
		content string
		do      func()
	}{{"one", func() {}}, {"two", func() { volary("volume", "rollback", "data", two) }}} {
		step.do()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
			limited, done := context.WithTimeout(t.Context(), 10*time.Second)
			got, err := d.Run(limited, "name", "resolve", "--nocache", "/ipns/"+info.ID)
			if err == nil {
				got, err = d.Run(limited, "cat", strings.TrimSpace(got)+"/f")
			}
			done()
			if err == nil && got == step.content {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it reads %q, want %q: %v", got, step.content, err)
			}
		}
	}
}
