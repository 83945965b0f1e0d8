package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/volary/volary/namespace"
)

// someToken is a token of a namespace that no other is.
func someToken(t *testing.T) string {
	t.Helper()
	token, err := newToken(namespace.Swarm{Mode: namespace.SwarmDerived})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAnInitThatWasCutGoesOnInNoOtherNamespace(t *testing.T) {
	for _, at := range []string{"config.toml", "identity", "peer-id"} {
		t.Run(at, func(t *testing.T) {
			dir, token := t.TempDir(), someToken(t)
			home := filepath.Join(dir, "state")
			join := []string{"--home", home, "init", "--chunker", "size-65536", "--join", token}
			// A directory with files where a file is to be stops it there.
			if err := os.MkdirAll(filepath.Join(home, at, "sub"), 0o700); err != nil {
				t.Fatal(err)
			}
			if code := run(t.Context(), append([]string{"volary"}, join...), &bytes.Buffer{}, &bytes.Buffer{}); code == exitOK {
				t.Fatalf("%s was not needed", at)
			}
			if err := os.RemoveAll(filepath.Join(home, at)); err != nil {
				t.Fatal(err)
			}
			volary(t, exitUsage, "--home", home, "snapshot", dir)
			volary(t, exitUsage, "--home", home, "token")
			volary(t, exitUsage, "--home", home, "init")
			volary(t, exitOK, join...)
			if got := strings.TrimSpace(volary(t, exitOK, "--home", home, "token")); got != token {
				t.Error("it is in another namespace")
			}
			if got := volary(t, exitOK, "--home", home, "config", "show"); !strings.Contains(got, `chunker = "size-65536"`) {
				t.Errorf("settings are\n%s", got)
			}
		})
	}
}

func TestOfSeveralInitsOneIsDoneAndTheOthersAreTold(t *testing.T) {
	home := filepath.Join(t.TempDir(), "state")
	var mu sync.Mutex
	var done []string
	var work sync.WaitGroup
	for range 8 {
		token := someToken(t)
		work.Go(func() {
			// Processes of their own: the library that reads arguments is not for several at once.
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "volary", "--home", home, "init", "--join", token)
			cmd.Stderr = &stderr
			err := cmd.Run()
			code := cmd.ProcessState.ExitCode()
			switch {
			case err == nil:
				mu.Lock()
				defer mu.Unlock()
				done = append(done, token)
			case code != exitUsage || !strings.Contains(stderr.String(), "there is state at"):
				t.Errorf("exit code %d: %s", code, &stderr)
			}
		})
	}
	work.Wait()
	if got := strings.TrimSpace(volary(t, exitOK, "--home", home, "token")); len(done) != 1 || done[0] != got {
		t.Errorf("%d were done, or it is in the namespace of another", len(done))
	}
}

func TestSettingsThatWereThereBeforeTheStateHoldAtOnce(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte("chunker = \"size-65536\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(volary(t, exitOK, "--home", home, "snapshot", t.TempDir()))
	if got := volary(t, exitOK, "--home", home, "stat", root); !strings.Contains(got, "size-65536") {
		t.Errorf("the snapshot is\n%s", got)
	}
}
